"""The media of a call: sound in, engine, playout, sound and pictures out."""
