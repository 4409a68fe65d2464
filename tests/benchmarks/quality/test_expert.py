"""Offsets that are planted in toy clips come back through the expert's part of the bench."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.quality.expert_page import expert_section
from benchmarks.quality.expert_page import main as page_main
from benchmarks.quality.material import Speech, Take, shortened
from benchmarks.quality.scores import Judge, score
from benchmarks.report import LinePlot, Table
from engine.media import FRAME_SAMPLES
from tests.tiny_models import TINY_SPEC
from tests.toy_expert import WINDOW, Levels
from tests.toy_takes import toy_takes


@pytest.fixture(scope="module")
def takes() -> list[Take]:
    """Faces whose sound is as loud as their mouth is open."""
    noise = np.random.default_rng(3).normal(0, 0.1, 201 * FRAME_SAMPLES)
    loud = []
    for take in toy_takes(201):
        level = np.repeat(10 ** (take.speech.mouth[:, 0] - 1.0), FRAME_SAMPLES)
        speech = Speech((noise * level).astype(np.float32), take.speech.mouth)
        loud.append(dataclasses.replace(take, speech=speech))
    return loud


@pytest.fixture(scope="module")
def judge(takes: list[Take]) -> Judge:
    return Judge.of(TINY_SPEC, takes, Levels())


@pytest.mark.parametrize("late", [-9, -1, 0, 4])
def test_pictures_that_are_late_are_found_late_by_as_much(judge: Judge, late: int) -> None:
    assert judge.expert is not None
    said = judge.expert.score([np.roll(take.truth, late, axis=0) for take in judge.takes])
    assert said is not None and said["offset_frames"] == late
    assert (said["distance"] == said["here"]) == (late == 0)


def test_only_what_fits_its_sound_has_confidence(judge: Judge) -> None:
    right = score(judge, [take.truth for take in judge.takes], 4)["expert"]
    wrong = score(judge, [take.truth for take in reversed(judge.takes)], 4)["expert"]
    still = score(judge, [take.source for take in judge.takes], 4)["expert"]
    assert right["confidence"] > 3 * max(wrong["confidence"], still["confidence"], 0.1)
    assert right["distance"] < 0.6 * min(wrong["distance"], still["distance"])


def test_a_round_more_is_no_other_sound(judge: Judge) -> None:
    assert judge.expert is not None
    once, twice = (judge.expert.score(judge.truths(201 * rounds)) for rounds in (1, 2))
    assert once is not None and twice is not None
    assert twice["offset_frames"] == 0
    assert twice["distance"] == pytest.approx(once["distance"], abs=0.02)


def test_shorter_takes_have_their_own_sound(judge: Judge) -> None:
    short = judge.over([shortened(take, 65) for take in judge.takes])
    assert short.expert is not None and len(short.expert.heard[0]) == 65
    said = score(short, short.truths(130), 4)["expert"]
    assert said["offset_frames"] == 0 and said["confidence"] > 0.5


def test_clips_shorter_than_a_window_are_not_judged(judge: Judge) -> None:
    assert judge.expert is not None
    assert judge.expert.score([take.truth[: WINDOW - 1] for take in judge.takes]) is None


def test_the_page_has_the_experts_table_where_it_was_asked(judge: Judge) -> None:
    row = score(judge, [take.truth for take in judge.takes], 4)
    (section,) = expert_section([], {"truth": row})
    assert section.title == "Sync expert"
    assert expert_section([], {"truth": {**row, "expert": None}}) == []


def accuracy() -> dict[str, Any]:
    """As `training.sync_accuracy` writes it."""
    found = {
        "stretches": 9, "still": 1, "exact": 0.9, "within_1": 1.0, "within_2": 1.0,
        "mean_error_frames": 0.1,
    }  # fmt: skip
    curve = {"area": 0.97, "false_accept": [0.0, 0.5, 1.0], "accept": [0.8, 0.9, 1.0]}
    part = {
        "offsets": {"whole": found, "16": {"stretches": 0, "still": 4}},
        "roc": {"clip": {"moved": curve}},
    }
    return {"planted_frames": 10, "all": part, "splits": {"voices": part}}


def test_the_experts_own_accuracy_stands_beside_its_figures(judge: Judge, tmp_path: Path) -> None:
    row = score(judge, [take.truth for take in judge.takes], 4)
    (section,) = expert_section([], {"truth": row}, accuracy())
    _, table, plot = section.blocks
    assert isinstance(table, Table) and isinstance(plot, LinePlot)
    assert [line[:4] for line in table.rows] == [
        ("all", "whole", 9, 0.9),
        ("voices", "whole", 9, 0.9),
    ]
    assert [series.label for series in plot.series] == ["all, area 0.970", "voices, area 0.970"]
    (tmp_path / "report.json").write_text(json.dumps(accuracy()))
    picture = tmp_path / "roc.png"
    assert page_main([str(tmp_path / "report.json"), "--picture", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
