"""Landmarks to affine, crop and paste-back, over sequences with one aligner each."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.conformance.checks import Report
from benchmarks.conformance.folder import Case, FixtureError, lookup, optional, read_picture
from engine.face.align import (
    LANDMARKS_106,
    SmoothingState,
    align_affine,
    latentsync_face,
    points_of_landmarks,
)
from engine.face.restore import crop_aligned, paste_aligned
from engine.spec import FaceSpec

_LEVELS = (("aligned", 5.0, 0.08), ("restored", 2.0, 0.02))


def check_align_restore(case: Case, report: Report) -> None:
    """Every sequence; landmarks exactly, affines and pictures closely."""
    resolution = case.get("resolution")
    face = latentsync_face(resolution)
    have = [0, 0, face.crop_width, face.crop_height]
    report.equal(case.name, "crop box", have, case.optional("box"))
    names = ("left", "right", "nose")
    groups = {name: list(group) for name, group in zip(names, LANDMARKS_106, strict=True)}
    for name, group in groups.items():
        stored = case.optional(f"landmark_index_rule.{name}")
        report.equal(case.name, f"landmarks of {name}", group, stored)
    for key in case.data:
        if match := re.fullmatch(r"face_size_resolution(\d+)", key):
            other = latentsync_face(int(match[1]))
            report.equal(case.name, key, [other.crop_width, other.crop_height], case.get(key))
    for name in case.tensors:
        if match := re.fullmatch(r"face_template_(\d+)", name):
            template = latentsync_face(int(match[1])).template
            report.close(case.name, name, template, case.array(name), 1e-4)
    for name, sequence in case.get("sequences").items():
        _check_sequence(case, name, sequence, resolution, report)


def _check_sequence(
    case: Case, name: str, sequence: dict[str, Any], resolution: int, report: Report
) -> None:
    where = f"{case.name}/{name}"
    image = read_picture(case.folder, f"{case.name}_{name}_image.png")
    size = [lookup(sequence, "image_height", where), lookup(sequence, "image_width", where)]
    report.equal(where, "picture size", list(image.shape[:2]), size)
    count = lookup(sequence, "frames", where)
    landmarks = case.array(f"{name}.landmarks106")
    if len(landmarks) != count:
        raise FixtureError(f"{where}: expected landmarks of {count} frames, got {len(landmarks)}")
    points = np.stack([points_of_landmarks(frame) for frame in landmarks])
    report.close(where, "landmarks3", points, case.array(f"{name}.landmarks3"), 0.0)

    face = latentsync_face(resolution)
    affines = _affines(points, face)
    tolerance = case.tolerance("affine", 2e-3)
    report.close(where, "affine", affines, case.array(f"{name}.affine"), tolerance)
    fresh = np.stack([align_affine(frame, face, SmoothingState()) for frame in points])
    stored = case.array(f"{name}.affine_fresh_state")
    report.close(where, "affine_fresh_state", fresh, stored, tolerance)
    plain = np.stack([align_affine(frame, face) for frame in points])
    stored = case.array(f"{name}.affine_no_smoothing")
    report.close(where, "affine_no_smoothing", plain, stored, tolerance)
    for key in case.tensors:
        if match := re.fullmatch(re.escape(name) + r"\.affine_resolution(\d+)", key):
            other = _affines(points, latentsync_face(int(match[1])))
            report.close(where, key.split(".")[-1], other, case.array(key), tolerance)

    aligned = [crop_aligned(image, affine, face, resolution) for affine in affines]
    generated = case.array(f"{name}.generated_face")
    kept = lookup(sequence, "restored_frames", where)
    restored = [paste_aligned(image, generated, affines[index], face) for index in kept]
    for (kind, largest, mean), pictures in zip(_LEVELS, (aligned, restored), strict=True):
        stored_picture = read_picture(case.folder, f"{case.name}_{name}_{kind}.png")
        stacked = np.concatenate(pictures)
        tolerance = case.tolerance(f"{kind}_max", largest)
        report.close(where, f"{kind}, levels", stacked, stored_picture, tolerance)
        tolerance = case.tolerance(f"{kind}_mean", mean)
        report.mean_close(where, f"{kind}, mean levels", stacked, stored_picture, tolerance)
    changed = [(frame != image).any(axis=2).mean() for frame in restored]
    stored_share = optional(sequence, "restored_pixels_changed_vs_input")
    report.close(where, "share of pixels changed", changed, stored_share, 5e-3)


def _affines(points: NDArray[np.float32], face: FaceSpec) -> NDArray[np.float32]:
    """The affines of a sequence with one running state."""
    state = SmoothingState()
    return np.stack([align_affine(frame, face, state) for frame in points])
