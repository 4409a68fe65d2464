"""Another scene is told from a change in the same one."""

from __future__ import annotations

import numpy as np

from engine.face.cut import SceneState, is_cut, scene_change
from engine.media import U8


def _grey(level: int, height: int = 48) -> U8:
    return np.full((height, 64), level, np.uint8)


def test_the_change_is_the_mean_difference_in_levels() -> None:
    state = SceneState()
    assert scene_change(state, _grey(100)) == float("inf")
    assert scene_change(state, _grey(100)) == 0.0
    assert scene_change(state, _grey(117)) == 17.0


def test_a_picture_of_another_size_changes_everything() -> None:
    state = SceneState()
    scene_change(state, _grey(100))
    assert is_cut(scene_change(state, _grey(100, height=60)), lost=False)
    assert scene_change(state, _grey(100, height=60)) == 0.0


def test_a_lesser_change_is_a_cut_where_the_flow_lost_the_face() -> None:
    assert not is_cut(17.0, lost=False)
    assert is_cut(17.0, lost=True)
    assert not is_cut(5.0, lost=True)
