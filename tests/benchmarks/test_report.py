"""The page that benchmarks leave beside their JSON."""

from __future__ import annotations

import importlib.util
import json
import re
import xml.etree.ElementTree as ET
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from benchmarks.report import (
    NEEDS_MATPLOTLIB,
    BarPlot,
    Circumstances,
    LinePlot,
    Report,
    Section,
    Series,
    Table,
    here,
    render_html,
    save_plots,
    show,
    write_report,
)

LINES = LinePlot(
    "Cost by batch",
    "batch",
    "ms",
    [Series("carry", (1, 2, 4), (1.0, 1.5, 2.5)), Series("pinned", (1, 2, 4), (4.0, 7.0, 14.0))],
    target=2.0,
    log_x=True,
    log_y=True,
)
BARS = BarPlot("By stage", "ms", ("audio", "U-Net"), {"a": (1.0, None), "b": (2.0, 3.0)})


def page() -> Report:
    about = Circumstances(
        "lipwire bench <x>", "one & a half cores", {"numpy": "2"}, "2026-01-01T00:00:00+00:00"
    )
    table = Table(("mode", "ratio"), [("carry", 1.0123456), ("pinned", None)], "Ratios")
    stacked = BarPlot("Stacked", "ms", ("x",), {"a": (1.0,), "b": (2.0,)}, stacked=True)
    section = Section("Seams", "One.\n\nTwo <b>.", [table, LINES, BARS, stacked])
    return Report("Quality", about, [section], "What it says.", ["a note"])


def test_a_page_holds_everything_and_loads_nothing() -> None:
    text = render_html(page())
    assert text.count("<svg") == 3
    for wanted in ("lipwire bench &lt;x&gt;", "one &amp; a half cores", "numpy 2", "1.012", "Two "):
        assert wanted in text
    assert "2026-01-01T00:00:00+00:00" in text
    assert "<b>" not in text
    addresses = re.findall(r'(?:src|href)="(?!#)[^"]*"|https?://[^"\s<]+', text)
    # Names of XML vocabularies and of the doctype are never loaded.
    assert all("w3.org" in address for address in addresses)
    assert "<script" not in text and "@import" not in text


def test_plots_take_the_pages_colours_and_no_id_stands_twice() -> None:
    text = render_html(page())
    assert "#010203" not in text and "#030201" not in text
    assert "var(--ink)" in text and "prefers-color-scheme: dark" in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    for target in re.findall(r'(?:url\(#|href="#)([^")]+)', text):
        assert target in ids


def test_a_plot_draws_its_lines_where_the_numbers_are() -> None:
    text = render_html(Report("r", page().circumstances, [Section("s", "", [LINES])]))
    svg = ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    labels = [node.text for node in svg.iter("{http://www.w3.org/2000/svg}text")]
    for label in ("carry", "pinned", "batch", "ms", "target"):
        assert label in labels


def test_the_same_report_gives_the_same_bytes() -> None:
    assert render_html(page()) == render_html(page())


def test_json_and_page_are_written_side_by_side(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    written = write_report(folder, "quality", {"ratio": 1.5}, page())
    assert [path.name for path in written] == ["quality.json", "quality.html"]
    assert json.loads(written[0].read_text()) == {"ratio": 1.5}
    with pytest.raises(ValueError, match="JSON"):
        write_report(folder, "broken", {"ratio": float("nan")}, page())


def test_without_matplotlib_the_json_is_written_and_a_sentence_says_how_to_get_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = importlib.util.find_spec

    def absent(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "matplotlib" else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    written = write_report(tmp_path, "quality", {"ratio": 1.5}, page())
    assert [path.name for path in written] == ["quality.json"]
    assert not (tmp_path / "quality.html").exists()
    said = capsys.readouterr().err
    assert said.strip() == NEEDS_MATPLOTLIB and ".[bench]" in said


def test_rows_and_bars_of_another_length_are_refused() -> None:
    about = page().circumstances
    for block in (Table(("a", "b"), [(1,)]), BarPlot("t", "y", ("a", "b"), {"x": (1.0,)})):
        with pytest.raises(ValueError, match="expected 2"):
            render_html(Report("r", about, [Section("s", "", [block])]))


def test_cells_are_short_and_a_missing_value_is_a_dash() -> None:
    assert [show(v) for v in ("x", 1.23456, 1234567.0, 12345, None, float("nan"), True)] == [
        "x", "1.235", "1,234,567", "12,345", "–", "–", "True",  # noqa: RUF001
    ]  # fmt: skip


def test_the_circumstances_name_command_machine_and_versions() -> None:
    about = here("lipwire bench quality", ["--model", "bundled"], "a card")
    assert about.command == "lipwire bench quality --model bundled"
    assert about.device.startswith("a card; ") and "cores" in about.device
    assert {"python", "numpy"} <= set(about.versions)
    assert about.date.endswith("+00:00")


def test_plots_can_be_saved_as_one_picture(tmp_path: Path) -> None:
    path = tmp_path / "img" / "plots.png"
    save_plots(path, [LINES, BARS, LINES])
    assert path.read_bytes().startswith(b"\x89PNG")
