"""Synthetic speech whose mouth is known: engines, phonemes, mouth tracks, corpus."""
