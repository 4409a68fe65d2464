"""The streaming lip-sync engine: sans-I/O, synchronous, numpy at its core."""
