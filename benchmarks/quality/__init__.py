"""How good a model's output is, by window mode, hop and step count: `lipwire bench quality`."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the bench; the exit status."""
    from benchmarks.quality import command

    return command.main(arguments)
