"""What `lipwire export` shows: progress while it works, and a few lines for each network."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from export.component_export import ExportRecord


class Progress:
    """A `Report` on standard error: one line that moves, with a bar where the length is known.

    Where that is no terminal, a line for each step.
    """

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._shown = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._task: TaskID | None = None
        self._step = ""

    def __enter__(self) -> Progress:
        self._shown.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._shown.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Shows the step; without a total, that it is at work."""
        if step != self._step or self._task is None:
            self.clear()
            self._task, self._step = self._shown.add_task(step, total=total or None), step
            if not self._shown.console.is_terminal:
                self._shown.console.print(step, highlight=False)
        self._shown.update(self._task, completed=done)

    def clear(self) -> None:
        """Takes the line away."""
        if self._task is not None:
            self._shown.remove_task(self._task)
            self._task = None


def lines(record: ExportRecord, folder: Path) -> list[str]:
    """What a person wants to know of an export."""
    name = next(iter(record.files))
    size_mb = sum((folder / file).stat().st_size for file in record.files) / 1e6
    head = f"{record.component}: {folder / name}, {size_mb:.1f} MB, {record.precision}"
    if record.worst is None:
        return [head, f"  not held against torch: {record.not_run}"]
    worst: dict[str, tuple[float, float]] = {}
    for error in record.errors:
        largest, relative = worst.get(error.output, (0.0, 0.0))
        worst[error.output] = (max(largest, error.largest), max(relative, error.relative))
    shown = [
        f"  {output:16} largest error {largest:.2e}, relative {relative:.2e}"
        for output, (largest, relative) in worst.items()
    ]
    if record.quantisation is not None:
        layers, kept = len(record.quantisation["ranges"]), len(record.quantisation["kept"])
        shown.append(f"  {layers - kept} layers multiply in 8 bits, {kept} were kept in f16")
    held = f"  held against torch by {record.runtime}, tolerance {record.tolerance:g}"
    if record.carried_tolerance != record.tolerance:
        held += f", of what is carried {record.carried_tolerance:g}"
    return [head, *shown, held]
