"""What is generated and what is shown of it."""

from __future__ import annotations

import numpy as np
import pytest

from engine.face.align import latentsync_face
from engine.face.mask import keep_mask, mask_image, mask_latents, paste_weights
from engine.spec import FaceSpec
from tests.tiny_models import TINY_SPEC

ELLIPSE = FaceSpec(
    template=((0.0, 0.0), (1.0, 0.0), (0.5, 1.0)),
    crop_width=64,
    crop_height=64,
    mask=(0.5, 0.6, 0.4, 0.3),
)


def test_a_superellipse_generates_its_inside() -> None:
    keep = keep_mask(ELLIPSE, 64)
    assert set(np.unique(keep)) == {0.0, 1.0}
    rows, columns = np.nonzero(keep == 0.0)
    assert (rows.min(), rows.max()) == (19, 57)  # 0.6 +- 0.3 of 64, pixel centres inside
    assert (columns.min(), columns.max()) == (6, 57)
    assert keep[0, 0] == 1.0 and keep[38, 32] == 0.0


@pytest.mark.parametrize("face", [ELLIPSE, latentsync_face(128)])
def test_only_generated_pixels_are_shown_and_edges_are_soft(face: FaceSpec) -> None:
    for size in (64, 128, 256):
        weights, keep = paste_weights(face, size), keep_mask(face, size)
        assert weights.dtype == np.float32
        assert np.all(weights <= 1.0 - keep + 1e-6)
        assert weights.max() == pytest.approx(1.0)
        assert ((weights > 0.05) & (weights < 0.95)).any()
        assert np.abs(np.diff(weights, axis=0)).max() < 0.8


def test_latent_masks_take_the_corner_pixel() -> None:
    step = TINY_SPEC.codec.downscale
    image, latents = mask_image(TINY_SPEC), mask_latents(TINY_SPEC)
    assert latents.shape == (TINY_SPEC.latent_size, TINY_SPEC.latent_size)
    assert all(
        latents[row, column] == image[row * step, column * step]
        for row in range(TINY_SPEC.latent_size)
        for column in range(TINY_SPEC.latent_size)
    )
