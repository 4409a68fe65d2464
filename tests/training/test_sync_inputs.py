from __future__ import annotations

import numpy as np
import pytest

from engine.face.align import latentsync_face
from engine.media import FRAME_SAMPLES
from engine.spec import FaceSpec
from training.dataset import BUNDLED_FACE
from training.speech.features import log_power
from training.sync_inputs import (
    SOUND,
    VIEW,
    VIEW_BOX,
    mouth_views,
    rows_of,
    sound_rows,
    sound_windows,
    stacked,
    view_affine,
)


def at(face: FaceSpec, resolution: int, units: tuple[float, float]) -> tuple[float, float]:
    """Where a place of the template lies in the view, by way of a model's crop."""
    left, right, nose = np.asarray(face.template, np.float64)
    across, down = (right - left) / 41.0, (nose - (left + right) / 2) / 20.0
    crop = left + (units[0] - 17.0) * across + (units[1] - 20.0) * down
    crop = crop * (resolution / face.crop_width, resolution / face.crop_height)
    affine = view_affine(face, resolution)
    x, y = affine[:, :2] @ crop + affine[:, 2]
    return float(x), float(y)


@pytest.mark.parametrize("units", [(37.5, 70.0), (28.0, 62.0), (48.0, 80.0)])
def test_every_models_crop_gives_the_same_view(units: tuple[float, float]) -> None:
    ours = at(BUNDLED_FACE, 128, units)
    for resolution in (256, 512):
        theirs = at(latentsync_face(resolution), resolution, units)
        np.testing.assert_allclose(theirs, ours, atol=1.0)  # of 64: pixels lie half a pixel apart


def test_the_view_is_the_mouths_box_made_small() -> None:
    crops = np.zeros((2, 128, 128, 3), np.uint8)
    left, top, right, bottom = VIEW_BOX
    crops[:, top:bottom, left:right] = 200
    views = mouth_views(crops)
    assert views.shape == (2, VIEW, VIEW, 3) and views[:, 1:-1, 1:-1].min() == 200
    crops[1, (top + bottom) // 2 :] = 0
    below, above = mouth_views(crops)[1, VIEW // 2 + 1 :], mouth_views(crops)[1, 1 : VIEW // 2 - 1]
    assert below.max() == 0 and above[:, 1:-1].min() == 200


def test_a_frame_of_sound_is_two_rows_of_its_own() -> None:
    samples = np.zeros(6 * FRAME_SAMPLES, np.float32)
    noise = np.random.default_rng(0).normal(0, 0.2, FRAME_SAMPLES)
    samples[3 * FRAME_SAMPLES : 4 * FRAME_SAMPLES] = noise
    rows = sound_rows(samples)
    assert rows.shape == (12, 40)
    assert set(np.flatnonzero(rows.mean(axis=1) > -5.0)) <= {6, 7, 8}  # a window reaches beyond
    assert rows[6:8].mean() > rows[8].mean() + 1.0
    np.testing.assert_array_equal(rows, rows_of(log_power(samples, SOUND)))
    with pytest.raises(ValueError, match="whole frames"):
        sound_rows(samples[:-1])


def test_windows_of_pictures_and_of_sound_begin_at_the_same_frames() -> None:
    views = np.arange(7, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, VIEW, VIEW))
    pictures = stacked(views.astype(np.float32), 5)
    assert pictures.shape == (3, 15, VIEW, VIEW)
    assert [int(v) for v in pictures[2, ::3, 0, 0]] == [2, 3, 4, 5, 6]
    rows = np.repeat(np.linspace(0, 1, 14, dtype=np.float32)[:, None], 40, axis=1)
    sound = sound_windows(rows, 5)
    assert sound.shape == (3, 1, 40, 10)
    np.testing.assert_allclose(sound[2, 0, 0], (rows[4:, 0] + 4.0) / 4.0)
