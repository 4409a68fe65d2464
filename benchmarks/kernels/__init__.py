"""Candidates for the hop's hot spots: in use nowhere until a GPU has shown that they pay."""
