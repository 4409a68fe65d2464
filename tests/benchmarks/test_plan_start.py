"""Starts are told by their kind, and pictures that differ are a failure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import plan_start
from benchmarks.plan_start import Start, server_lines
from benchmarks.server_starts import Moment, ServerStart


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
    options = ["--repeats", "2", "--server-repeats", "0", "--json", str(target)]
    assert plan_start.main(options) == status
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[-3:] for line in shown[1:4]] == [
        ["2.00", "|", "4.00"],
        ["3.00", "|", "6.00"],
        ["0.50", "|", "1.00"],
    ]
    report = json.loads(target.read_text())
    assert report["same_pictures"] is (status == 0)
    assert [len(starts) for starts in report["starts"].values()] == [2, 2, 2]


def test_the_servers_table_has_medians_and_only_what_happened() -> None:
    kept = [ServerStart(Moment(wall, 4.0), "openvino-bf16", 1.0, []) for wall in (3.0, 2.5, 9.0)]
    beside = ServerStart(
        Moment(4.0, 6.0), "onnxruntime-f32", 1.0, [], Moment(9.0, 12.0), Moment(9.1, 12.1), "ov"
    )
    lines = server_lines({"kept": kept, "background": [beside]})
    assert [line.split() for line in lines[1:]] == [
        ["kept", "ready", "on", "openvino-bf16", "4.00", "|", "3.00"],
        ["background", "ready", "on", "onnxruntime-f32", "6.00", "|", "4.00"],
        ["background", "ov", "takes", "over", "12.00", "|", "9.00"],
        ["background", "the", "call", "has", "moved", "12.10", "|", "9.10"],
    ]
