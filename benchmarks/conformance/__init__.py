"""Holds this implementation against stored numbers of the published one."""
