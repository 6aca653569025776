"""Thin, typed doors to the nodes' own interfaces."""
