"""Avatars on disk: their list, and those that are made of people's own pictures."""
