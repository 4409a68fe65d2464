"""The measured quality falls with everything that spoils a face."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from engine.face.align import latentsync_face
from engine.media import U8, Picture
from tests.photograph import BROWS, NOSE, portrait_rgb
from training.prepare.align import ClipAligner, face_luma
from training.prepare.quality import (
    MIN_QUALITY,
    MeasuredQuality,
    blockiness,
    blur_effect,
    measure,
    noise_level,
)

FACE = latentsync_face(256)
POINTS = np.array([*BROWS, NOSE], np.float32)


def score(rgb: U8, scale: float = 1.0) -> float:
    """Of the photograph, spoilt and perhaps shrunk."""
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = small.shape[0] // 2 * 2, small.shape[1] // 2 * 2
    even = np.ascontiguousarray(small[:height, :width])
    picture = Picture(np.asarray(cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420), np.uint8))
    points = POINTS * np.float32(scale)
    crop = ClipAligner(FACE, 256).crop(picture, points)
    return measure(crop, face_luma(picture, points, FACE)).score


def blurred(sigma: float) -> U8:
    return np.asarray(cv2.GaussianBlur(portrait_rgb(), (0, 0), sigma), np.uint8)


def compressed(quality: int) -> U8:
    bgr = np.ascontiguousarray(portrait_rgb()[..., ::-1])
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    shown = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB), np.uint8)


def noisy(deviation: float) -> U8:
    noise = np.random.default_rng(0).normal(0, deviation, portrait_rgb().shape)
    return np.clip(portrait_rgb() + noise, 0, 255).astype(np.uint8)


def lit(gain: float) -> U8:
    return np.asarray(np.clip(portrait_rgb() * gain, 0, 255), np.uint8)


def test_a_good_photograph_passes_easily() -> None:
    assert score(portrait_rgb()) > 80


@pytest.mark.parametrize(
    ("spoilt", "amounts"),
    [
        (lambda sigma: score(blurred(sigma)), (0.3, 1.0, 2.0)),
        (lambda quality: score(compressed(quality)), (90, 30, 8)),
        (lambda deviation: score(noisy(deviation)), (2, 15, 30)),
        (lambda gain: score(lit(gain)), (1.0, 0.25, 0.1)),
        (lambda scale: score(portrait_rgb(), scale), (1.0, 0.6, 0.3)),
    ],
    ids=["blur", "compression", "noise", "darkness", "size"],
)
def test_what_spoils_a_face_costs_score_until_it_is_left_out(
    spoilt: Callable[[float], float], amounts: tuple[float, ...]
) -> None:
    scores = [spoilt(amount) for amount in amounts]
    assert scores[0] > MIN_QUALITY > scores[-1]
    assert scores == sorted(scores, reverse=True)


def test_a_clip_has_the_median_of_its_frames() -> None:
    good, bad = portrait_rgb()[100:356, 130:386], blurred(4)[100:356, 130:386]
    lumas = [np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8) for rgb in (good, bad)]
    clip = MeasuredQuality().score(np.stack([good, bad, good]), [lumas[0], lumas[1], lumas[0]])
    assert clip == measure(good, lumas[0]).score > measure(bad, lumas[1]).score


def test_a_flat_picture_is_all_blur_and_no_blocks_or_noise() -> None:
    flat = np.full((64, 64), 90, np.uint8)
    assert (blur_effect(flat), blockiness(flat), noise_level(flat)) == (1.0, 0.0, 0.0)


def test_noise_is_measured_in_levels() -> None:
    noise = np.random.default_rng(1).normal(120, 10, (128, 128))
    assert noise_level(np.clip(noise, 0, 255).astype(np.uint8)) == pytest.approx(10, rel=0.05)


def test_a_grid_of_blocks_is_seen_wherever_it_begins() -> None:
    rng = np.random.default_rng(2)
    blocks = np.kron(rng.integers(60, 180, (12, 12)), np.ones((8, 8))).astype(np.uint8)
    for shift in range(3):
        assert blockiness(blocks[shift:, shift:]) > 1.0
    assert blockiness(rng.integers(60, 180, (96, 96)).astype(np.uint8)) < 0.3
