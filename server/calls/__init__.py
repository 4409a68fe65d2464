"""Calls, whatever carries them: begun, watched, ended."""
