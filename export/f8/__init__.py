"""Exports whose products are of 8-bit floats."""
