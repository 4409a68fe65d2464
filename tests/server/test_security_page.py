"""The table of limits in docs/security.md names tests and modules that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "security.md"
NOT_READ = "not read"  # an input that nobody looks at needs no test


def _rows() -> list[list[str]]:
    section = PAGE.read_text(encoding="utf-8").split("\n## Limits\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def _tests_of(name: str) -> set[str]:
    folder = ROOT / "tests" if "/" in name else ROOT / "tests" / "server"
    tree = ast.parse((folder / f"{name}.py").read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, functions)}


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0])
def test_each_limit_names_what_holds_it_and_tests_that_exist(row: list[str]) -> None:
    _, limit, held_by, tests = row
    if limit == NOT_READ:
        return
    for module in re.findall(r"`([^`]+)`", held_by):
        folder = ROOT if "/" in module else ROOT / "server"
        assert (folder / f"{module}.py").is_file(), module
    named = re.findall(r"`([^`:]+)::([^`]+)`", tests)
    assert named, "a limit without a test is none"
    for file, test in named:
        assert test in _tests_of(file), (file, test)


def test_the_table_has_rows() -> None:
    assert len(_rows()) > 20
