"""Packets to one table. Import the module you need: this one stays empty, for the capture container."""
