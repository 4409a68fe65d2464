"""Measurements and conformance checks."""
