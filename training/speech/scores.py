"""How well a predicted mouth track follows the truth: figures per split.

Shared by the audio encoder, its floors (`training.speech.floors`) and any
judge of generated frames that reads mouth tracks back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.media import F32
from training.mouth import CLOSURE, MOUTH_PARAMETERS, OPENING

Scores = dict[str, float]
CLOSED: Final = 0.9  # truth: the lips are shut
SEEN_CLOSED: Final = 0.5  # prediction: called shut
_TOLERANCE_FRAMES: Final = 1
_LAGS: Final = range(-4, 5)
_REST_MARGIN_FRAMES: Final = 5


def mouth_scores(predicted: F32, truth: F32, clips: Sequence[tuple[int, int]]) -> Scores:
    """Figures over all clips (start, frames) of a split.

    Returns:
        `NAME` the correlation of a parameter, `opening_ratio` predicted over
        true standard deviation, `lag_frames` (positive: prediction late),
        `shuffled` the opening's correlation against another clip's truth,
        `closure_recall` and `closure_precision` within one frame, and
        `rest_opening`, the mean predicted opening where the mouth rests.
    """
    scores: Scores = {
        name: correlation(predicted[:, column], truth[:, column])
        for column, name in enumerate(MOUTH_PARAMETERS)
    }
    ratio = predicted[:, OPENING].std() / max(float(truth[:, OPENING].std()), 1e-6)
    scores["opening_ratio"] = float(ratio)
    scores["lag_frames"] = float(best_lag(predicted[:, OPENING], truth[:, OPENING]))
    half = len(truth) // 2
    scores["shuffled"] = correlation(predicted[:, OPENING], np.roll(truth[:, OPENING], half))
    recall, precision = closure_hits(predicted[:, CLOSURE], truth[:, CLOSURE], clips)
    scores["closure_recall"], scores["closure_precision"] = recall, precision
    resting = rest_frames(truth)
    if resting.any():
        scores["rest_opening"] = float(predicted[resting, OPENING].mean())
    return {name: round(value, 3) for name, value in scores.items()}


def correlation(a: F32, b: F32) -> float:
    """Pearson's, 0 for a constant."""
    if a.std() < 1e-6 or b.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def best_lag(predicted: F32, truth: F32) -> int:
    """The shift in frames of the prediction at which it correlates best."""
    return max(_LAGS, key=lambda lag: correlation(np.roll(predicted, -lag), truth))


def closure_hits(
    predicted: F32, truth: F32, clips: Sequence[tuple[int, int]]
) -> tuple[float, float]:
    """Recall and precision of shut lips, each within one frame."""
    found = shut = right = called = 0
    for start, frames in clips:
        seen = predicted[start : start + frames] >= SEEN_CLOSED
        real = truth[start : start + frames]
        near_seen, near_real = _widen(seen), _widen(real >= SEEN_CLOSED)
        for first, last in runs(real >= CLOSED):
            shut += 1
            found += bool(near_seen[first:last].any())
        for first, last in runs(seen):
            called += 1
            right += bool(near_real[first:last].any())
    return found / max(shut, 1), right / max(called, 1)


def runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[first, last) of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def rest_frames(truth: F32) -> NDArray[np.bool_]:
    """Frames with a resting mouth well inside a pause."""
    still = np.asarray((np.abs(truth) < 0.02).all(axis=1), np.bool_)
    deep = still.copy()
    for shift in range(1, _REST_MARGIN_FRAMES + 1):
        deep &= np.roll(still, shift) & np.roll(still, -shift)
    return deep


def _widen(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    wide = flags.copy()
    for shift in range(1, _TOLERANCE_FRAMES + 1):
        wide[shift:] |= flags[:-shift]
        wide[:-shift] |= flags[shift:]
    return wide
