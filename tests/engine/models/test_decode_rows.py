"""The row arithmetic, against the rows that a decoder's steps truly depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.face.align import latentsync_face
from engine.face.mask import paste_weights
from engine.models.decode_rows import Rows, Step, cut_norms, plan_rows

STEPS: tuple[Step, ...] = (
    *("conv", "norm", "conv", "attention", "norm", "conv", "upsample"),
    *("norm", "conv", "norm", "conv", "upsample", "norm", "conv", "norm", "conv"),
)


def read_by(step: Step, wanted: set[int], height: int) -> set[int]:
    """The rows that a step reads for some of its own, row by row."""
    match step:
        case "norm":
            return wanted
        case "attention":
            return set(range(height))
        case _:
            around = {row + by for row in wanted for by in (-1, 0, 1)} & set(range(height))
            return {row // 2 for row in around} if step == "upsample" else around


@given(st.integers(4, 12), st.data())
def test_a_plan_holds_what_is_read_and_no_more(size: int, data: st.DataObject) -> None:
    height = 4 * size
    first = data.draw(st.integers(0, height - 1))
    wanted = Rows(first, data.draw(st.integers(first + 1, height)), height)
    plan = plan_rows(STEPS, wanted)
    rows = set(range(wanted.first, wanted.end))
    for step, before, after in zip(STEPS[::-1], plan[-2::-1], plan[:0:-1], strict=True):
        rows = read_by(step, rows, after.height)
        assert set(range(before.first, before.end)) == rows


@pytest.mark.parametrize("whole_levels", [0, 1, 2, 3])
def test_low_resolutions_are_whole_where_asked(whole_levels: int) -> None:
    plan = plan_rows(STEPS, Rows(30, 34, 64), whole_levels)
    assert plan[-1] == (Rows(30, 34, 64) if whole_levels < 3 else Rows.all_of(64))
    level = {16: 0, 32: 1, 64: 2}
    assert all(rows.whole for rows in plan if level[rows.height] < whole_levels)
    assert not any(rows.whole for rows in plan if level[rows.height] >= max(whole_levels, 1))


def test_norms_over_a_part_of_the_picture_are_named() -> None:
    assert cut_norms(STEPS, plan_rows(STEPS, Rows.all_of(64))) == []
    plan = plan_rows(STEPS, Rows(40, 44, 64), whole_levels=1)
    assert cut_norms(STEPS, plan) == [7, 9, 12, 14]


def test_the_published_mask_shows_its_rows() -> None:
    assert Rows.shown(paste_weights(latentsync_face(256), 256)) == Rows(95, 243, 256)
    with pytest.raises(ConfigError, match="a mask with some weight"):
        Rows.shown(np.zeros((8, 8), np.float32))


def test_wrong_rows_are_refused() -> None:
    for first, end in ((-1, 3), (3, 3), (5, 9)):
        with pytest.raises(ConfigError, match="expected rows within 0 to 8"):
            Rows(first, end, 8)
    with pytest.raises(ConfigError, match="expected a multiple of 4 rows, got 30"):
        plan_rows(STEPS, Rows(3, 9, 30))
