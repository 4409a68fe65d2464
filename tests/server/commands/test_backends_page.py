"""docs/backends.md lists what there is, and how to get it, as `lipwire doctor` says it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.backends import select
from export.targets import TARGETS
from server.commands.doctor import check_backends

PAGE = Path(__file__).resolve().parents[3] / "docs" / "backends.md"


def rows() -> dict[str, list[str]]:
    """The cells of the table at the page's head, by the name in the first one."""
    table = PAGE.read_text(encoding="utf-8").split("\n## ", 1)[0]
    lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    return {cells[0].strip("|` "): cells[1:] for cells in lines}


def serving() -> set[str]:
    """What serves, by the page's names: torch comes twice in doctor's list."""
    return {name.removesuffix("-cuda").removesuffix("-cpu") for name in _candidates()}


def _candidates() -> list[str]:
    return [candidate.name for candidate in select.CANDIDATES]


def test_the_table_has_everything_that_serves_and_everything_that_is_exported_to() -> None:
    purposes = {name: set(cells[0].split(", ")) for name, cells in rows().items()}
    assert {name for name, purpose in purposes.items() if "serving" in purpose} == serving()
    assert {name for name, purpose in purposes.items() if "export" in purpose} == set(TARGETS)


def test_doctor_and_the_table_say_the_same_of_how_to_get_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(select, "_version", lambda distribution: None)
    said = {check.name.removeprefix("backend "): check.remedy for check in check_backends()}
    for name in _candidates():
        known = name.removesuffix("-cuda").removesuffix("-cpu")
        assert said[name] in rows()[known][-1], name


def test_speeds_are_those_of_the_one_run_below() -> None:
    text = PAGE.read_text(encoding="utf-8")
    below = text.split("## Speed, one run", 1)[1].split("\n## ", 1)[0]
    measured = set(re.findall(r"\| (\d+\.\d) \|", below))
    shown = {
        figure for cells in rows().values() for figure in re.findall(r"(\d+\.\d) \(", cells[3])
    }
    assert shown == measured and len(shown) == 5
