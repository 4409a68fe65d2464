"""Starts are told by their kind, and pictures that differ are a failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import plan_start
from benchmarks.plan_start import Start


@pytest.mark.parametrize(("loaded_crops", "status"), [("aa", 0), ("bb", 1)])
def test_the_table_has_every_kind_and_the_status_says_whether_pictures_differ(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    loaded_crops: str,
    status: int,
) -> None:
    def fake(model: str, precision: str | None, plans: Path | None) -> Start:
        if plans is None:
            return Start(2.0, 4.0, "aa")
        loaded = (plans / "seen").exists()
        (plans / "seen").touch()
        return Start(0.5, 1.0, loaded_crops) if loaded else Start(3.0, 6.0, "aa")

    monkeypatch.setattr(plan_start, "_in_a_process", fake)
    target = tmp_path / "report.json"
    assert plan_start.main(["--repeats", "2", "--json", str(target)]) == status
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[-3:] for line in shown[1:4]] == [
        ["2.00", "|", "4.00"],
        ["3.00", "|", "6.00"],
        ["0.50", "|", "1.00"],
    ]
    report = json.loads(target.read_text())
    assert report["same_pictures"] is (status == 0)
    assert [len(starts) for starts in report["starts"].values()] == [2, 2, 2]
