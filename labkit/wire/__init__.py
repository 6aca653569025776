"""Bytes to values and back: no socket, no clock, no pandas in here."""
