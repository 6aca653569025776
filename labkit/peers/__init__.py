"""Roles that labkit plays itself: phones and the HSS."""
