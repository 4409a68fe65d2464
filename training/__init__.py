"""Synthetic speech and faces, and the training of the bundled model."""
