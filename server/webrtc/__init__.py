"""Calls over WebRTC: negotiation, connections, and what is changed in aiortc."""
