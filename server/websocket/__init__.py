"""Calls over a WebSocket."""
