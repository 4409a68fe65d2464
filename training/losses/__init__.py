"""Losses in pixels that need networks of their own, and the reading of those networks' files."""
