"""How near a decode of some rows comes to a decode of the whole picture."""
