"""People's own videos, made into aligned face clips for fine-tuning."""
