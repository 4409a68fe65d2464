"""What is generated and what is shown of it."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from engine.errors import ConfigError
from engine.face.align import latentsync_face
from engine.face.mask import (
    keep_mask,
    latentsync_outline,
    mask_from_picture,
    mask_image,
    mask_latents,
    paste_weights,
)
from engine.media import U8
from engine.spec import FaceSpec
from tests.tiny_models import TINY_SPEC


def png(picture: U8) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()


HALF = np.full((64, 64), 255, np.uint8)
HALF[32:] = 0
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


@pytest.mark.parametrize(
    "face",
    [ELLIPSE, latentsync_face(128), replace(ELLIPSE, mask=mask_from_picture(png(HALF)))],
    ids=["superellipse", "outline", "picture"],
)
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


def test_a_mask_can_be_a_picture() -> None:
    face = replace(latentsync_face(256), mask=mask_from_picture(png(HALF)))
    assert np.array_equal(keep_mask(face, 64), HALF / np.float32(255))
    large = keep_mask(face, 512)
    assert (large[:240] > 0.95).all() and (large[272:] < 0.05).all()


@pytest.mark.parametrize("size", [64, 256, 512])
def test_the_outline_as_a_picture_masks_as_the_outline_does(size: int) -> None:
    face = latentsync_face(size)
    same = replace(face, mask=mask_from_picture(png(latentsync_outline())))
    assert np.array_equal(keep_mask(same, size), keep_mask(face, size))
    assert np.array_equal(paste_weights(same, size), paste_weights(face, size))


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (b"", "expected a PNG picture"),
        (b"GIF89a", "expected a PNG picture"),
        (png(HALF[:, :40]), "expected a square picture, got 40 x 64"),
        (png(HALF[:32, :32]), "expected white where the face is kept and black"),
    ],
    ids=["empty", "no_picture", "oblong", "white"],
)
def test_what_is_no_mask_is_refused(picture: bytes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        mask_from_picture(picture)


def test_another_word_than_the_outlines_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected .latentsync., .png:.*got .mask2.png"):
        replace(ELLIPSE, mask="mask2.png")
