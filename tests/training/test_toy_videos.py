"""Toy videos are what their names say."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.prepare.check import check_source
from training.prepare.sound import load_sound, speaking_share
from training.toy_videos import make_people, talk


def test_a_person_talks_for_as_long_as_was_asked(tmp_path: Path) -> None:
    make_people(tmp_path, 1, 0.8)
    path = tmp_path / "person00" / "talk.mp4"
    info = check_source(path, 0.7)
    assert info.frames == 20
    assert speaking_share(load_sound(path, info.origin)) > 0.3


def test_the_same_person_says_the_same_again() -> None:
    one, other = (talk(3, 0.2, 0, side=64) for _ in range(2))
    assert np.array_equal(np.stack(one.pictures), np.stack(other.pictures))
    assert np.array_equal(one.samples, other.samples)
    assert one.points.shape == (5, 3, 2)
