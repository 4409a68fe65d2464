"""The gateway's side of the engine process, and what the two say to each other."""
