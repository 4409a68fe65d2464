"""The measured quality falls with everything that spoils a face."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from benchmarks.clip_quality import blurred, h264, jpeg, lit, noisy, score
from engine.media import U8
from tests.photograph import BROWS, NOSE, portrait_rgb
from training.prepare.quality import (
    MIN_QUALITY,
    MeasuredQuality,
    blockiness,
    blur_effect,
    measure,
    noise_level,
)

POINTS = np.array([*BROWS, NOSE], np.float32)


def spoilt_score(rgb: U8, scale: float = 1.0) -> float:
    """Of the photograph, spoilt and perhaps shrunk."""
    small = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return score(np.asarray(small, np.uint8), POINTS * np.float32(scale))


def test_a_good_photograph_passes_easily() -> None:
    assert spoilt_score(portrait_rgb()) > 80


@pytest.mark.parametrize(
    ("spoilt", "amounts"),
    [
        (lambda sigma: spoilt_score(blurred(portrait_rgb(), sigma)), (0.3, 1.0, 2.0)),
        (lambda quality: spoilt_score(jpeg(portrait_rgb(), quality)), (90, 30, 8)),
        (lambda crf: spoilt_score(h264(portrait_rgb(), crf)), (18, 40, 50)),
        (lambda deviation: spoilt_score(noisy(portrait_rgb(), deviation)), (2, 15, 30)),
        (lambda gain: spoilt_score(lit(portrait_rgb(), gain)), (1.0, 0.25, 0.1)),
        (lambda scale: spoilt_score(portrait_rgb(), scale), (1.0, 0.6, 0.3)),
    ],
    ids=["blur", "JPEG", "H.264", "noise", "darkness", "size"],
)
def test_what_spoils_a_face_costs_score_until_it_is_left_out(
    spoilt: Callable[[float], float], amounts: tuple[float, ...]
) -> None:
    scores = [spoilt(amount) for amount in amounts]
    assert scores[0] > MIN_QUALITY > scores[-1]
    assert scores == sorted(scores, reverse=True)


def test_a_clip_has_the_median_of_its_frames() -> None:
    good, bad = portrait_rgb()[100:356, 130:386], blurred(portrait_rgb(), 4)[100:356, 130:386]
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
