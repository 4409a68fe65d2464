"""The published crop and paste-back, besides their golden pictures."""

from __future__ import annotations

import numpy as np
import torch

from engine.face.align import align_affine, latentsync_face
from engine.face.restore import bicubic_weights, crop_aligned, paste_aligned

POINTS = np.array([[70.0, 60.0], [130.0, 60.0], [100.0, 90.0]], np.float32)


def test_resizing_is_torch_s_antialiased_bicubic() -> None:
    random = np.random.default_rng(0)
    picture = random.normal(size=(3, 64, 48)).astype(np.float32)
    for size in ((70, 39), (20, 48), (64, 100)):
        rows, columns = bicubic_weights(64, size[0]), bicubic_weights(48, size[1])
        ours = rows @ picture @ columns.T
        theirs = torch.nn.functional.interpolate(
            torch.from_numpy(picture)[None], size, mode="bicubic", antialias=True
        )[0]
        assert np.abs(ours - theirs.numpy()).max() < 1e-4


def test_a_flat_picture_comes_back_flat() -> None:
    face = latentsync_face(64)
    image = np.full((240, 260, 3), 90, np.uint8)
    affine = align_affine(POINTS, face)
    assert np.abs(crop_aligned(image, affine, face, 64).astype(int) - 90).max() <= 1
    generated = np.full((3, 64, 64), 90 / 127.5 - 1.0, np.float32)
    pasted = paste_aligned(image, generated, affine, face).astype(int)
    assert np.abs(pasted - 90).max() <= 6  # the published edge weighs the face twice
    assert (np.abs(pasted - 90) > 1).mean() < 0.1


def test_white_stays_white_and_the_rest_untouched() -> None:
    face = latentsync_face(64)
    image = np.zeros((240, 260, 3), np.uint8)
    affine = align_affine(POINTS, face)
    pasted = paste_aligned(image, np.full((3, 64, 64), 1.5, np.float32), affine, face)
    assert pasted.max() >= 254
    assert not pasted[:, :10].any() and not pasted[200:].any()


def test_a_face_outside_of_the_picture_changes_nothing() -> None:
    face = latentsync_face(64)
    image = np.full((80, 90, 3), 33, np.uint8)
    affine = align_affine(POINTS + 5000.0, face)
    assert np.array_equal(
        paste_aligned(image, np.zeros((3, 64, 64), np.float32), affine, face), image
    )
    assert np.all(crop_aligned(image, affine, face, 64) == 127)
