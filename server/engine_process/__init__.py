"""What runs in the engine's own process; it knows no network but its connections."""
