from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import pytest

from benchmarks import distilled_codec
from tests.toy_corpus import write_toy_corpus


def test_a_student_is_trained_measured_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_toy_corpus(tmp_path / "corpus")
    monkeypatch.setattr(distilled_codec, "HELD_OUT", 2)
    monkeypatch.setattr(distilled_codec, "SHOWN", 2)
    monkeypatch.setattr(distilled_codec, "TIMED", 1)
    places = [f"--{name}={tmp_path / name}" for name in ("corpus", "work", "out")]
    wanted = [*places, "--teacher-s=0.1", "--steps=1", "--batch=1"]
    monkeypatch.setattr(sys, "argv", ["distilled_codec", *wanted])
    distilled_codec.main()
    result = json.loads((tmp_path / "out" / "distilled_codec.json").read_text())
    assert result["gflop_at_256"]["student"] < result["gflop_at_256"]["budget"]
    assert result["gflop_at_256"]["kl"] > 500
    assert 0 < result["psnr_db"]["lips_to_truth"] < 60
    assert str(tmp_path) not in json.dumps(result)
    sheet = cv2.imread(str(tmp_path / "out" / "distilled_codec.png"))
    assert sheet is not None and sheet.shape == (3 * 128, 2 * 128, 3)
