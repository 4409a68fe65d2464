"""Draws one synthetic face, frame by frame, from mouth parameters and a pose.

Skin, beard, neck and backdrop are lit once (`training.faces.skin`). A frame
looks them up through the pose and the skin's motion, then paints the mouth,
all at twice the size, and is averaged down.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from engine.face.align import align_affine
from engine.media import F32, U8
from engine.spec import FaceSpec
from training.faces.canvas import MIDLINE, Canvas, Floats
from training.faces.glasses import glasses_shadow, paint_glasses
from training.faces.hair import grow_hair
from training.faces.identity import Identity
from training.faces.light import Light
from training.faces.lips import REACH, MouthShape, mouth_shape
from training.faces.motion import SkinMotion
from training.faces.mouth_paint import MouthPainter
from training.faces.pose import Depth, Pose, invert, project
from training.faces.skin import darken, flatten, lay_over, paint_layers

CROP_PIXELS: Final = 128
FLOW_CELLS: Final = 16  # cells a side of a truth of skin motion, 8 pixels each
CROP_X0, CROP_Y0, CROP_UNITS = 8.5, 41.0, 58.0  # the square of template units in a crop
TEMPLATE: Final = ((17.0, 20.0), (58.0, 20.0), (37.5, 40.0))
_HAIR_TOP = 29.0  # y above which no crop shows hair
_OVER = 2  # supersampling
_LOOSE = 2  # the pose is undone at this fraction of the supersampled grid


@dataclass(frozen=True, slots=True)
class CropRenderer:
    """Draws aligned crops of the lower face of one identity under one light."""

    identity: Identity
    canvas: Canvas
    texture: U8
    depth: Depth
    motion: SkinMotion
    painter: MouthPainter
    anchors: F32

    @classmethod
    def build(cls, identity: Identity, light: Light) -> CropRenderer:
        light = light.metered(identity.skin)
        density = _OVER * CROP_PIXELS / CROP_UNITS
        columns, rows = int(88 * density), int(108 * density)
        canvas = Canvas(MIDLINE - 44.0, 14.0, columns, rows, density)
        layers = paint_layers(identity, light, canvas)
        hidden = int((_HAIR_TOP - canvas.y0) * density)
        below = Canvas(canvas.x0, canvas.y0 + hidden / density, columns, rows - hidden, density)
        grow_hair(layers.below(hidden), identity, light, below)
        texture = flatten(layers)
        if identity.glasses:
            glasses = paint_glasses(identity, light, canvas)
            darken(texture, glasses_shadow(identity, light, canvas, glasses))
            texture = lay_over(texture, glasses)
        depth = Depth.of(layers.relief, canvas)
        return cls(
            identity,
            canvas,
            texture,
            depth,
            SkinMotion.build(identity, canvas),
            MouthPainter.build(identity, light),
            depth.anchors(identity),
        )

    def render(self, mouth_row: F32, pose: Pose, jitter: Pose | None = None) -> U8:
        """The lower face, uint8 RGB [128, 128, 3], aligned by its own three points.

        Args:
            mouth_row: [7], a row of a mouth track.
            pose: only yaw and pitch show; alignment takes the rest out.
            jitter: alignment error: roll, scale and shift in template units.
        """
        affine = crop_affine(self.anchors, pose, jitter)
        size = CROP_PIXELS * _OVER // _LOOSE
        step = CROP_UNITS / CROP_PIXELS * _LOOSE / _OVER
        start = (0.5 * _LOOSE / _OVER - 0.5) * CROP_UNITS / CROP_PIXELS
        line = start + step * np.arange(size, dtype=np.float32)
        u, v = np.meshgrid(line + CROP_X0, line + CROP_Y0)
        x, y = transform(affine, u, v)
        x, y = self.depth.unpose(pose, x, y)
        shape = mouth_shape(self.identity, mouth_row)
        source = self.motion.apply(self.motion.field(shape), x, y)
        both = np.dstack([x, y, source])
        full = CROP_PIXELS * _OVER
        both = cv2.resize(both, (full, full), interpolation=cv2.INTER_LINEAR)
        density, canvas = self.canvas.density, self.canvas
        looked_up = cv2.remap(
            self.texture,
            (both[..., 2] + (MIDLINE - canvas.x0)) * density,
            (both[..., 3] - canvas.y0) * density,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        skin = np.asarray(looked_up, np.uint8)
        paint_mouth(skin, both[..., 0], both[..., 1], self.painter, shape, 1.0 / density)
        return np.asarray(
            cv2.resize(skin, (CROP_PIXELS, CROP_PIXELS), interpolation=cv2.INTER_AREA), np.uint8
        )

    def skin_flow(self, said_row: F32, shown_row: F32, pose: Pose, jitter: Pose | None) -> F32:
        """float32 [16, 16, 2]: from the skin of one mouth to the same skin of another.

        The skin seen at the middle of cell (row, column) of the crop that says `said_row`
        is seen at that place plus the result's (dx, dy), in cells, in the crop of the same
        pose that shows `shown_row`. Lips and the inside of the mouth carry on the motion of
        the skin around them.
        """
        affine = crop_affine(self.anchors, pose, jitter)
        units = CROP_UNITS / FLOW_CELLS
        middle = ((np.arange(FLOW_CELLS) + 0.5) * units - 0.5 * CROP_UNITS / CROP_PIXELS).astype(
            np.float32
        )
        u, v = np.meshgrid(middle + CROP_X0, middle + CROP_Y0)
        x, y = self.depth.unpose(pose, *transform(affine, u, v))
        said, shown = (
            self.motion.field(mouth_shape(self.identity, row)) for row in (said_row, shown_row)
        )
        seen = self.motion.seen_at(shown, self.motion.apply(said, x, y))
        before = self.depth.pose(pose, x, y)
        after = self.depth.pose(pose, seen[..., 0].copy(), seen[..., 1].copy())
        # Only differences count, so the affine's shift drops out.
        return np.asarray((after - before) @ invert(affine)[:, :2].T / units, np.float32)


def crop_affine(anchors: F32, pose: Pose, jitter: Pose | None = None) -> F32:
    """[2, 3]: template units of the aligned crop -> the head's plane, roll and shift undone."""
    flat = Pose(pose.yaw, pose.pitch)
    points = project(flat, anchors)
    target = np.asarray(TEMPLATE, np.float32)
    if jitter is not None:
        shifted = target - (MIDLINE, 0.0)
        space = np.concatenate([shifted, np.full((3, 1), 0.0)], axis=1).astype(np.float32)
        still = Pose(0.0, 0.0, jitter.roll, jitter.dx, jitter.dy, jitter.scale)
        target = project(still, space) + np.asarray((MIDLINE, 0.0), np.float32)
    left, right, nose = ((float(x), float(y)) for x, y in target)
    spec = FaceSpec(template=(left, right, nose), crop_width=75, crop_height=100)
    return invert(align_affine(points, spec))


def paint_mouth(
    skin: U8, x: Floats, y: Floats, painter: MouthPainter, shape: MouthShape, pixel: float
) -> None:
    """Paint the mouth into uint8 `skin` wherever x, y (face plane) come near it."""
    identity = painter.identity
    rel = y - identity.mouth_y
    coarse_x, coarse_y = np.abs(x[::4, ::4]), rel[::4, ::4]
    top, bottom = shape.contours[:, 0].min() - 3.5, shape.contours[:, 3].max() + 5.5
    near = (coarse_x < min(shape.half + 7.0, REACH)) & (coarse_y > top) & (coarse_y < bottom)
    rows = np.flatnonzero(near.any(1))
    columns = np.flatnonzero(near.any(0))
    if len(rows) == 0 or len(columns) == 0:
        return
    area = (slice(4 * rows[0], 4 * rows[-1] + 4), slice(4 * columns[0], 4 * columns[-1] + 4))
    patch = skin[area].astype(np.float32) * (1.0 / 255.0)
    painter.paint(
        patch, np.ascontiguousarray(x[area]), np.ascontiguousarray(rel[area]), shape, pixel
    )
    skin[area] = np.clip(patch * 255.0 + 0.5, 0, 255).astype(np.uint8)


def transform(affine: F32, u: F32, v: F32) -> tuple[F32, F32]:
    """The affine [2, 3] of points u, v, as x relative to the midline where it says so."""
    x = affine[0, 0] * u + affine[0, 1] * v + affine[0, 2]
    y = affine[1, 0] * u + affine[1, 1] * v + affine[1, 2]
    return x.astype(np.float32), y.astype(np.float32)
