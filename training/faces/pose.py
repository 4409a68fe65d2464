"""Where a head is turned, and the way from picture to face plane and back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.faces.canvas import MIDLINE, Canvas, Floats, blur
from training.faces.identity import Identity
from training.faces.relief import Relief

PIVOT = (0.0, 60.0, -6.0)  # what a nodding head turns about; x relative to the midline

# Steeper than this, a head turned by 30 degrees would hide a part of its own surface
# (1 / tan 30 = 1.7), and looking up what is seen where would tear.
_STEEPEST = 1.25
_UNPOSE_STEPS = 7
_REACH = 40  # pixels of the height map over which slopes are eased


@dataclass(frozen=True, slots=True)
class Pose:
    """Turn in radians, then roll, scale and shift (units) in the picture.

    Positive yaw turns the face to the picture's right, positive pitch down.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    dx: float = 0.0
    dy: float = 0.0
    scale: float = 1.0

    def rotation(self) -> Floats:
        """[2, 3]: picture x and y of a point of the head, before roll, scale and shift."""
        cy, sy = np.cos(self.yaw), np.sin(self.yaw)
        cp, sp = np.cos(self.pitch), np.sin(self.pitch)
        return np.asarray([[cy, 0.0, sy], [-sp * sy, cp, sp * cy]], np.float32)

    def plane(self) -> Floats:
        """[2, 3] similarity in the picture, about the pivot: roll, scale, shift."""
        c, s = self.scale * np.cos(self.roll), self.scale * np.sin(self.roll)
        px, py = PIVOT[0], PIVOT[1]
        return np.asarray(
            [
                [c, -s, px - c * px + s * py + self.dx],
                [s, c, py - s * px - c * py + self.dy],
            ],
            np.float32,
        )


def project(pose: Pose, points: Floats) -> Floats:
    """Picture positions [n, 2] in units of points [n, 3], x relative to the midline."""
    pivot = np.asarray(PIVOT, np.float32)
    turned = (points - pivot) @ pose.rotation().T + pivot[:2]
    plane = pose.plane()
    return np.asarray(turned @ plane[:, :2].T + plane[:, 2], np.float32)


def invert(affine: Floats) -> Floats:
    """The inverse of a [2, 3] affine."""
    return np.asarray(cv2.invertAffineTransform(affine), np.float32)


@dataclass(frozen=True, slots=True)
class Depth:
    """A smooth height map to look up while undoing a pose."""

    canvas: Canvas
    z: Floats

    @classmethod
    def of(cls, relief: Relief, canvas: Canvas, density: float = 2.0) -> Depth:
        small = canvas.coarser(density)
        soft = blur(relief.z, 0.9 * canvas.density)
        step = canvas.density / density
        x = (np.arange(small.columns, dtype=np.float32) * step)[None].repeat(small.rows, 0)
        y = (np.arange(small.rows, dtype=np.float32) * step)[:, None].repeat(small.columns, 1)
        z = cv2.remap(soft, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cls(small, blur(_gentle(z, _STEEPEST / density), 0.5 * density))

    def at(self, x: Floats, y: Floats) -> Floats:
        canvas = self.canvas
        column = (x + (MIDLINE - canvas.x0)) * canvas.density
        row = (y - canvas.y0) * canvas.density
        return cv2.remap(self.z, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def anchors(self, identity: Identity) -> Floats:
        """[3, 3]: the two brow centres and the nose in space."""
        flat = np.asarray(identity.points, np.float32)
        z = self.at(flat[:, :1].copy(), flat[:, 1:].copy())
        return np.concatenate([flat, z], axis=1).astype(np.float32)

    def pose(self, pose: Pose, x: Floats, y: Floats) -> Floats:
        """[..., 2]: where the head's surface over face-plane x, y is seen, its plane left out."""
        points = np.stack([x, y, self.at(x, y)], axis=-1)
        return project(Pose(pose.yaw, pose.pitch), points)

    def unpose(self, pose: Pose, u: Floats, v: Floats) -> tuple[Floats, Floats]:
        """Face-plane x, y seen at u, v, where u, v already have `pose.plane` undone."""
        r = pose.rotation()
        px, py, pz = PIVOT
        a, b = u - px, v - py
        det = float(r[0, 0] * r[1, 1] - r[0, 1] * r[1, 0])
        x, y = u, v
        for _ in range(_UNPOSE_STEPS):
            z = self.at(x, y) - pz
            ra, rb = a - r[0, 2] * z, b - r[1, 2] * z
            x = (r[1, 1] * ra - r[0, 1] * rb) / det + px
            y = (r[0, 0] * rb - r[1, 0] * ra) / det + py
        return x, y


def _gentle(z: Floats, drop: float) -> Floats:
    """The lowest surface over `z` that falls by at most `drop` from pixel to pixel."""
    gentle = np.asarray(z, np.float32)
    for _ in range(_REACH):
        kernel = np.ones((3, 1), np.uint8)
        for across in (kernel, kernel.T):
            gentle = np.maximum(gentle, cv2.dilate(gentle, across) - drop)
    return gentle
