"""Whether something is before the mouth: a hand, a cup, a microphone.

The lower face is held, cell by cell, against what it looked like so far. What speech moves
(lips, jaw, beard) has learnt a wide spread and deviates little by it; light is taken out by
fitting it over the whole face; a cover differs from both in many cells at once.

What is there from the start is taken for a part of the face, and so is a cover that has not
moved against the face for 15 s: a gate that can't find its way back would be worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.face.view import ABOVE, HEIGHT, MIDDLE, WIDTH
from engine.media import F32

F64 = NDArray[np.float64]

CELL: Final = 4  # units
_ROWS, _COLUMNS = HEIGHT // CELL, WIDTH // CELL

# Mean deviation of the lower face's cells, each counted up to _MOST spreads. On rendered heads
# talking reaches 0.5 to 1.7, a lamp that is switched 2.0, and covers 2.1 to 6.
# A face that moves little is told from a cover sooner: the limit lies above what it reaches.
COVERED: Final = (1.5, 2.5)  # the lowest and the highest limit
_FIRST_PEAK: Final = 1.45
_ABOVE_PEAK: Final = 0.6
_LIGHT: Final = 1.2  # what the upper face changes too is light: it raises the limit by so much
_USUAL_RATE: Final = 0.02
CLEAR: Final = 0.3  # below the limit
_PEAK_RISE, _PEAK_FALL = 0.05, 0.01  # of the difference, a picture
_PEAK_PICTURES: Final = 40  # before it is followed: a mouth must have had time to move
_MOST: Final = 6.0
_ASTRAY: Final = 0.8  # of the lower face's deviation
_COVER_PICTURES: Final = 2  # in a row
# The same where most of the lower face is as it was and the rest doesn't deviate much: a mouth
# that opens wide after a pause looks so, but closes sooner.
_SMALL_COVER_PICTURES: Final = 6
_AS_IT_WAS: Final = 0.67  # of the mean deviation, that the median cell stays under
_MOUTH_ALONE: Final = 0.6  # above the limit, that a mouth stays under
_CLEAR_PICTURES: Final = 4
LEARNING_PICTURES: Final = 10  # before anything is judged
_RATE: Final = 0.04  # of learning
_DOUBT_RATE: Final = 0.01  # the same where a cover may be on its way
_STEP: Final = 1.2  # spreads that the mean follows at most in a picture
# Spread before anything is learnt, and at least: levels of Y, U, V and of Y's texture.
_FLOOR: Final = np.array([5.0, 2.2, 2.2, 4.0])
_DIM: Final = (0.6, 100.0)  # share of it that stays in the dark; levels of Y from which all does
_MOUTH_SPREAD: Final = np.array([16.0, 3.5, 4.5, 9.0])
_WIDER_AT_30_DEGREES: Final = 1.6  # the spread of a turned face
_BRIGHT: Final = 205.0  # levels of Y
_WHITE: Final = np.array([233.0, 255.0, 255.0, 255.0])  # most that a cell can show
_LOWER_PRIOR: Final = 0.3  # weight in the fit of light: what may be covered counts less
_ROUNDS: Final = 3
_RELEARN_PICTURES: Final = 375  # 15 s
_STILL: Final = 0.6  # spreads a picture that a cover's cells may change and count as still


def _places() -> tuple[F64, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.intp]]:
    """Of the face's cells: [n, 2] units from between the brows, which are of the lower face,
    which of them of the mouth, and their index in the grid."""
    rows, columns = np.mgrid[:_ROWS, :_COLUMNS]
    x = (columns + 0.5) * CELL - 0.5 - MIDDLE
    y = (rows + 0.5) * CELL - 0.5 - ABOVE
    upper = (np.abs(x) < 27) & (y > -11) & (y < 25)
    reach = 26.0 - np.clip(y - 40.0, 0.0, None) * 0.42  # towards the chin a face is narrower
    lower = (np.abs(x) < reach) & (y > 27) & (y < 64)
    mouth = lower & (np.abs(x) < 19) & (y > 37)
    used = upper | lower
    return np.stack([x[used], y[used]], axis=1), lower[used], mouth[used], np.flatnonzero(used)


_PLACES, _LOWER, _MOUTH, _INDEX = _places()
_PRIOR: F64 = np.where(_LOWER, _LOWER_PRIOR, 1.0)


@dataclass(slots=True)
class OcclusionState:
    """What one session remembers of a face's n cells.

    Attributes:
        mean, variance: float64 [n, 4] of Y, U, V and Y's texture; None: nothing is learnt.
        before: the last picture's cells.
        seen: pictures learnt from.
        level: how far the lower face deviates now, in spreads.
        upper, usual: the same of the upper face, beyond what is usual for it.
        peak: that `level` reaches while nothing covers the face.
        covered: the answer, with its hysteresis.
        since: pictures in a row that contradict it; one with a large cover counts for several.
        still: pictures that a cover has not moved.
    """

    mean: F64 | None = None
    variance: F64 | None = None
    before: F64 | None = None
    seen: int = 0
    level: float = 0.0
    upper: float = 0.0
    usual: float = 0.5
    peak: float = _FIRST_PEAK
    covered: bool = False
    since: int = 0
    still: int = 0

    def reset(self) -> None:
        """Forgets the face."""
        self.mean = self.variance = self.before = None
        self.seen = self.since = self.still = 0
        self.level, self.upper, self.covered = 0.0, 0.0, False
        self.usual, self.peak = 0.5, _FIRST_PEAK

    @property
    def limit(self) -> float:
        """Of `level`: beyond, the face is covered."""
        limit = self.peak + _ABOVE_PEAK + _LIGHT * max(self.upper, 0.0)
        return min(max(limit, COVERED[0]), COVERED[1])


def judge_cover(state: OcclusionState, view: F32, yaw: float) -> bool:
    """Whether the lower face is covered.

    Args:
        view: `engine.face.view.face_view` of the face.
        yaw: radians that it is turned.
    """
    cells = _cells(view)
    if state.mean is None or state.variance is None or state.before is None:
        state.mean, state.before = cells, cells
        state.variance = _floor(cells) ** 2
        state.variance[_MOUTH] = _MOUTH_SPREAD**2
        return False
    spread = np.sqrt(np.maximum(state.variance, _floor(state.mean) ** 2))
    spread *= 1.0 + (_WIDER_AT_30_DEGREES - 1.0) * abs(np.degrees(yaw)) / 30.0
    expected = np.minimum(_relit(state.mean, cells, spread), _WHITE)
    # Where a camera is overexposed, colour and texture fade without anything being there.
    glare = np.clip((np.maximum(cells[:, :1], expected[:, :1]) - _BRIGHT) / 25.0, 0.0, 1.0)
    spread[:, 1:] *= 1.0 + 2.0 * glare
    worst = (np.abs(cells - expected) / spread).max(axis=1)
    counted = np.minimum(worst, _MOST)
    state.level = float(counted[_LOWER].mean())
    upper = float(counted[~_LOWER].mean())
    state.upper = upper - state.usual
    # Where the upper face is not as it was at all, the view is off, which says nothing.
    astray = upper > max(_ASTRAY * state.level, state.limit - CLEAR)
    if state.covered:
        _await_clear(state, cells, spread, worst, astray=astray)
    elif astray and state.seen >= LEARNING_PICTURES:
        state.since = 0
        _learn(state, cells, expected, spread, _DOUBT_RATE)
    elif state.seen < LEARNING_PICTURES or state.level <= state.limit:
        state.since = 0
        doubt = state.seen >= LEARNING_PICTURES and state.level > state.limit - CLEAR
        _learn(state, cells, expected, spread, _DOUBT_RATE if doubt else _RATE)
        if state.seen > _PEAK_PICTURES:
            rate = _PEAK_RISE if state.level > state.peak else _PEAK_FALL
            state.peak += rate * (state.level - state.peak)
        state.usual += (_USUAL_RATE if state.seen > LEARNING_PICTURES else 0.2) * state.upper
    else:
        median = float(np.median(counted[_LOWER]))
        small = median < _AS_IT_WAS * state.level and state.level < state.limit + _MOUTH_ALONE
        state.since += 1 if small else _SMALL_COVER_PICTURES // _COVER_PICTURES
        if state.since >= _SMALL_COVER_PICTURES:
            state.covered, state.since, state.still = True, 0, 0
    if state.mean is not None:
        state.before = cells
    return state.covered


def _cells(view: F32) -> F64:
    """[n, 4] mean Y, U and V of each of the face's cells, and the deviation of Y in it."""
    blocks = view[:, : _ROWS * CELL, : _COLUMNS * CELL]
    blocks = blocks.reshape(3, _ROWS, CELL, _COLUMNS, CELL).transpose(0, 1, 3, 2, 4)
    flat = blocks.reshape(3, _ROWS * _COLUMNS, CELL * CELL)[:, _INDEX].astype(np.float64)
    return np.column_stack([*flat.mean(axis=2), flat[0].std(axis=1)])


def _floor(mean: F64) -> F64:
    """[n, 4] spread at least: on dark skin everything differs by less, covers too."""
    least, bright = _DIM
    return np.asarray(_FLOOR * np.clip(mean[:, :1] / bright, least, 1.0), np.float64)


def _relit(mean: F64, cells: F64, spread: F64) -> F64:
    """The learnt cells in the light and exposure of now.

    Y by a gain that slopes and a tone curve that bends, U and V by a gain that depends on Y
    (clipping takes the colour out of what is bright) and a shift.
    """
    expected = mean.copy()
    slope = _PLACES / 30.0
    luma = mean[:, 0]
    bent = (luma - 128.0) / 128.0
    flat = np.full_like(luma, 16.0)
    terms = np.column_stack([luma, luma * slope[:, 0], luma * slope[:, 1], luma * bent, flat])
    expected[:, 0] = _fit(terms, cells[:, 0], spread[:, 0])
    for channel in (1, 2):
        colour = mean[:, channel] - 128.0
        terms = np.column_stack([colour, colour * bent, flat / 4.0])
        now = cells[:, channel] - 128.0
        expected[:, channel] = 128.0 + _fit(terms, now, spread[:, channel])
    return expected


def _fit(terms: F64, target: F64, spread: F64) -> F64:
    """`target` as a sum of `terms`; cells that don't fit count little.

    The first term's own weight is 1 and the others' 0 unless there is evidence.
    """
    model, wanted = terms / spread[:, None], target / spread
    count = terms.shape[1]
    still = np.zeros(count)
    still[0] = 1.0
    ridge = np.eye(count)
    weights: F64 = _PRIOR
    solution: F64 = still
    for _ in range(_ROUNDS):
        weighted = model * weights[:, None]
        normal = weighted.T @ model + ridge
        solution = np.asarray(np.linalg.solve(normal, weighted.T @ wanted + still), np.float64)
        rest = (wanted - model @ solution) / 1.5
        weights = np.asarray(_PRIOR / (1.0 + rest * rest), np.float64)
    return np.asarray(terms @ solution, np.float64)


def _learn(state: OcclusionState, cells: F64, expected: F64, spread: F64, rate: float) -> None:
    assert state.variance is not None
    rate = max(rate, 1.0 / (state.seen + 2)) if state.seen < LEARNING_PICTURES else rate
    # Light that changed is learnt whole; what moved, little by little.
    difference = cells - expected
    state.mean = expected + rate * np.clip(difference, -_STEP * spread, _STEP * spread)
    square = np.minimum(difference**2, (4.0 * spread) ** 2)
    state.variance += rate * (square - state.variance)
    state.seen += 1


def _await_clear(
    state: OcclusionState, cells: F64, spread: F64, worst: F64, *, astray: bool
) -> None:
    """Opens when the face is as it was; forgets it when the cover seems to belong to it."""
    assert state.before is not None
    state.since = state.since + 1 if state.level < state.limit - CLEAR or astray else 0
    if state.since >= _CLEAR_PICTURES:
        state.covered, state.since = False, 0
        return
    place = np.flatnonzero(_LOWER & (worst > 3.0))
    change = np.abs(cells - state.before)[place, :3] / spread[place, :3]
    moved = float(change.mean()) if len(place) else 0.0
    state.still = state.still + 1 if moved < _STILL else 0
    if state.still >= _RELEARN_PICTURES:
        state.reset()
