"""The tables of `docs/protocol.md`, for tests that hold the code to them."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "protocol.md"


def table(after: str) -> list[list[str]]:
    """Rows of cells of the first table after a line that begins with `after`, without its head."""
    lines = iter(PAGE.read_text(encoding="utf-8").split("\n"))
    for line in lines:
        if line.startswith(after):
            break
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            break
    assert len(rows) > 2, f"no table after {after!r}"
    return rows[2:]
