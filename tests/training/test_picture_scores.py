from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.picture_scores import boundary_ratio, mouth_psnr, picture_scores, skin_psnr


def test_the_boundary_ratio_sees_a_jump_at_every_hop() -> None:
    steady = (
        np.zeros((16, 128, 128, 3), np.uint8) + np.arange(16, dtype=np.uint8)[:, None, None, None]
    )
    jumping = steady + 10 * (np.arange(16, dtype=np.uint8) // 4)[:, None, None, None]
    assert boundary_ratio([steady], 4) == pytest.approx(1.0)
    assert boundary_ratio([jumping], 4) == pytest.approx(11.0)


def test_only_the_mouth_counts_in_the_mouths_error() -> None:
    black = np.zeros((2, 128, 128, 3), np.uint8)
    elsewhere = black.copy()
    elsewhere[:, :10] = 255
    inside = black.copy()
    inside[:, 60:70, 60:70] = 255
    assert mouth_psnr([elsewhere], [black]) > 100
    assert mouth_psnr([inside], [black]) < 20


def test_only_skin_inside_the_mask_counts_in_the_skins_error() -> None:
    black = np.zeros((2, 128, 128, 3), np.uint8)
    kept, chin, lips = black.copy(), black.copy(), black.copy()
    kept[:, :8], chin[:, 108:114, 50:70], lips[:, 60:70, 60:70] = 255, 255, 255
    assert skin_psnr([kept], [black]) > 100
    assert skin_psnr([lips], [black]) > 100
    assert skin_psnr([chin], [black]) < 20


def test_the_truth_scores_best_and_a_blurred_one_has_half_its_sharpness_or_less() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 255, (8, 128, 128, 3), dtype=np.uint8)
    blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in truth])
    scores = picture_scores([blurred], [truth], [truth], 4)
    assert scores["sharpness_of_truth"] < 0.5
    assert scores["mouth_psnr_source_shown_db"] > scores["mouth_psnr_db"] > 10.0
    assert picture_scores([truth], [truth], [truth], 4)["sharpness_of_truth"] == 1.0
