"""Whole pictures of a synthetic face: head, hair, eyes, mouth, shoulders, backdrop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from engine.media import F32, U8
from training.faces.canvas import MIDLINE, Canvas
from training.faces.eyes import EyePainter, Gaze
from training.faces.glasses import glasses_shadow, paint_glasses
from training.faces.hair import grow_hair
from training.faces.identity import Identity
from training.faces.light import Light
from training.faces.lips import mouth_shape
from training.faces.motion import SkinMotion
from training.faces.mouth_paint import MouthPainter
from training.faces.pose import Depth, Pose, invert, project
from training.faces.renderer import paint_mouth, transform
from training.faces.skin import Layers, darken, lay_over, paint_layers

FRAME_PIXELS: Final = 512
_OVER = 2  # supersampling
_LOOSE = 4  # the pose is undone at this fraction of the supersampled grid
_MARGIN = 8.0  # units drawn beyond the frame's edge, for motion


@dataclass(frozen=True, slots=True)
class Framing:
    """How a face sits in a picture: pixels a unit and the unit at the top left corner."""

    density: float = 2.8
    x0: float = MIDLINE - 91.4
    y0: float = -55.0


@dataclass(frozen=True, slots=True)
class PortraitRenderer:
    """Draws 512 x 512 pictures of one identity under one light."""

    identity: Identity
    framing: Framing
    canvas: Canvas
    layers: Layers
    depth: Depth
    motion: SkinMotion
    mouth: MouthPainter
    eyes: EyePainter
    anchors: F32
    glasses: U8 | None

    @classmethod
    def build(cls, identity: Identity, light: Light, framing: Framing) -> PortraitRenderer:
        light = light.metered(identity.skin)
        density = framing.density * _OVER
        size = int((FRAME_PIXELS / framing.density + 2 * _MARGIN) * density)
        canvas = Canvas(framing.x0 - _MARGIN, framing.y0 - _MARGIN, size, size, density)
        layers = paint_layers(identity, light, canvas)
        grow_hair(layers, identity, light, canvas)
        depth = Depth.of(layers.relief, canvas)
        glasses = None
        if identity.glasses:
            glasses = paint_glasses(identity, light, canvas)
            darken(layers.head, glasses_shadow(identity, light, canvas, glasses))
        return cls(
            identity,
            framing,
            canvas,
            layers,
            depth,
            SkinMotion.build(identity, canvas),
            MouthPainter.build(identity, light),
            EyePainter.build(identity, light),
            depth.anchors(identity),
            glasses,
        )

    def points(self, pose: Pose) -> F32:
        """[3, 2]: left brow, right brow and nose in pixels of the picture."""
        units = project(pose, self.anchors) + np.asarray([MIDLINE, 0.0], np.float32)
        origin = np.asarray([self.framing.x0, self.framing.y0], np.float32)
        return np.asarray((units - origin) * self.framing.density, np.float32)

    def render(
        self, mouth_row: F32, pose: Pose, gaze: Gaze | None = None, breath: float = 0.0
    ) -> tuple[U8, F32]:
        """One picture, uint8 RGB [512, 512, 3], and its three points [3, 2] in pixels.

        Args:
            mouth_row: [7], a row of a mouth track.
            breath: units that the shoulders are lifted.
        """
        gaze = gaze or Gaze()
        u, v = self._grid()
        head_u, head_v = transform(invert(pose.plane()), u, v)
        x, y = self.depth.unpose(pose, head_u, head_v)
        shape = mouth_shape(self.identity, mouth_row)
        source = self.motion.apply(self.motion.field(shape), x, y)

        nod = project(pose, np.asarray([[0.0, 78.0, 18.0]], np.float32))[0]
        follow = np.clip((112.0 - v) / 26.0, 0, 1)
        follow = follow * follow * (3 - 2 * follow)
        body_u = u - nod[0] * follow
        body_v = v - (nod[1] - 78.0) * follow + breath * np.clip((v - 78.0) / 20.0, 0, 1)
        behind_u, behind_v = transform(invert(pose.plane()), u, v)
        lag = project(pose, np.asarray([[0.0, 20.0, -10.0]], np.float32))[0]
        behind_u = behind_u - (lag[0] - pose.dx) * 0.5

        full = FRAME_PIXELS * _OVER
        backdrop = self._look_up(self.layers.backdrop, u, v, full)
        picture = lay_over(backdrop, self._look_up(self.layers.back, behind_u, behind_v, full))
        picture = lay_over(picture, self._look_up(self.layers.body, body_u, body_v, full))
        head = self._look_up(self.layers.head, source[..., 0], source[..., 1], full)
        colour = np.ascontiguousarray(head[..., :3])
        fine_x = cv2.resize(x, (full, full), interpolation=cv2.INTER_LINEAR)
        fine_y = cv2.resize(y, (full, full), interpolation=cv2.INTER_LINEAR)
        pixel = 1.0 / self.canvas.density
        paint_mouth(colour, fine_x, fine_y, self.mouth, shape, pixel)
        self.eyes.paint(colour, fine_x, fine_y, gaze, pixel)
        head[..., :3] = colour
        picture = lay_over(picture, head)
        if self.glasses is not None:
            picture = lay_over(picture, self._look_up(self.glasses, x, y, full))
        small = cv2.resize(picture, (FRAME_PIXELS, FRAME_PIXELS), interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.uint8), self.points(pose)

    def _grid(self) -> tuple[F32, F32]:
        size = FRAME_PIXELS * _OVER // _LOOSE
        line = (np.arange(size, dtype=np.float32) + 0.5) * (_LOOSE / _OVER) - 0.5
        line /= self.framing.density
        u, v = np.meshgrid(line + self.framing.x0 - MIDLINE, line + self.framing.y0)
        return u.astype(np.float32), v.astype(np.float32)

    def _look_up(self, layer: U8, x: F32, y: F32, size: int) -> U8:
        canvas = self.canvas
        column = (x + (MIDLINE - canvas.x0)) * canvas.density
        row = (y - canvas.y0) * canvas.density
        fine = [
            cv2.resize(a.astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
            for a in (column, row)
        ]
        return np.asarray(
            cv2.remap(layer, fine[0], fine[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )
