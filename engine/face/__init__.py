"""Faces: detection, alignment, masks and pasting back."""
