"""How good a model's output is, by window mode, hop and step count: `lipwire bench quality`."""

from benchmarks.quality.command import main

__all__ = ["main"]
