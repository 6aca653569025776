"""Packets to one table. Import the module you need: this package itself stays empty for the capture container."""
