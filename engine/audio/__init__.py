"""Speech features: log-mel frames and the windows the audio encoder sees."""
