"""PySceneDetect finds the cuts of a video at 25 frames a second."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from engine.media import U8
from tests.prepared_videos import heads
from training.prepare.pictures import grid_frames
from training.prepare.shots import find_shots
from training.toy_videos import steady, write_video


def shots_of(path: Path, pictures: list[U8]) -> list[range]:
    write_video(path, pictures, steady(len(pictures)), np.zeros(64_000, np.float32))
    return find_shots(grid_frames(path, Fraction(0), len(pictures)))


def test_a_cut_from_one_head_to_another_is_found_at_its_frame(tmp_path: Path) -> None:
    pictures = [*heads(30, "anna"), *heads(40, "marco")]
    assert shots_of(tmp_path / "v.mp4", pictures) == [range(0, 30), range(30, 70)]


def test_a_head_that_only_moves_is_one_shot(tmp_path: Path) -> None:
    moving = [np.roll(picture, 2 * index, axis=1) for index, picture in enumerate(heads(40))]
    assert shots_of(tmp_path / "v.mp4", moving) == [range(0, 40)]


def test_no_frames_are_no_shots() -> None:
    assert find_shots([]) == []
