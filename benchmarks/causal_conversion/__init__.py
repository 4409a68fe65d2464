"""A small bidirectional model made causal: what the conversion does to seams and sync."""
