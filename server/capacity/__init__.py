"""How many calls there may be: measured, reckoned, and given out as places."""
