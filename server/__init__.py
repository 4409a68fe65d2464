"""The gateway: HTTP, WebRTC, playout and the host of the engine process."""
