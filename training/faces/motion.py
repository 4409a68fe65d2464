"""How the skin around a mouth moves when the mouth does."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.faces.canvas import MIDLINE, Canvas, Floats, bump, smoothstep
from training.faces.identity import Identity
from training.faces.lips import MouthShape

_AMPLITUDES = 33
_LOWEST, _HIGHEST = -4.0, 16.0  # units of drop that the table spans
_INVERSE_STEPS = 30


@dataclass(frozen=True, slots=True)
class SkinMotion:
    """Tables from which one frame's skin displacement is read.

    Attributes:
        canvas: coarse grid of the displacement.
        undropped: [_AMPLITUDES, rows of y]: y at rest of what is seen at y, for a drop.
    """

    canvas: Canvas
    x: Floats
    y: Floats
    lateral: Floats
    undropped: Floats
    corner: Floats
    above: Floats
    cheek: Floats
    mouth_half: float

    @classmethod
    def build(cls, identity: Identity, canvas: Canvas) -> SkinMotion:
        coarse = canvas.coarser(1.0)
        x, y = coarse.grid()
        ax = np.abs(x)
        lateral = 0.16 + 0.84 * np.exp(-((ax / 19.0) ** 2.4))
        mouth, half = identity.mouth_y, identity.mouth_half
        rest = np.arange(coarse.y0 - 20, coarse.y0 + coarse.rows + 20, 0.25, dtype=np.float32)
        lip = mouth + identity.lower_lip
        profile = smoothstep(mouth - 3.0, lip, rest)
        profile *= 1 - 0.36 * smoothstep(lip, identity.chin_y - 3.0, rest)
        profile *= smoothstep(identity.chin_y + 16.0, identity.chin_y - 1.0, rest)
        rows = y[:, 0]
        amplitudes = np.linspace(_LOWEST, _HIGHEST, _AMPLITUDES)
        table = np.stack([np.interp(rows, rest + a * profile, rest) for a in amplitudes])
        corner = np.minimum(ax / half, 1.0) * np.exp(-((np.maximum(ax - half, 0) / 8.5) ** 2))
        corner *= np.exp(-(((y - mouth) / 9.5) ** 2)) * np.sign(x)
        # Corners pull at the cheeks, not at the eyes and what is worn before them.
        corner *= smoothstep(identity.nose_base - 9.0, identity.nose_base - 1.0, y)
        above = bump(x, y, 0.0, mouth - identity.upper_lip, half, 2.6)
        cheek = bump(ax, y, 21.0, 52.0, 8.0, 7.5)
        return cls(
            coarse,
            x,
            y,
            lateral.astype(np.float32),
            table.astype(np.float32),
            corner.astype(np.float32),
            above,
            cheek,
            half,
        )

    def field(self, shape: MouthShape) -> Floats:
        """float32 [rows, columns, 2]: where the skin seen at a grid point lies at rest."""
        widened = shape.half - self.mouth_half
        amplitude = shape.drop * self.lateral
        index = (amplitude - _LOWEST) * ((_AMPLITUDES - 1) / (_HIGHEST - _LOWEST))
        at = self.y + shape.raise_ * self.above
        at += max(widened, 0.0) * 0.45 * self.cheek
        rows = at - self.canvas.y0
        source_y = cv2.remap(
            self.undropped, rows, index, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        source_x = self.x - widened * self.corner
        return np.dstack([source_x, source_y])

    def apply(self, field: Floats, x: Floats, y: Floats) -> Floats:
        """float32 [..., 2]: where the skin seen at x, y lies at rest."""
        column = x + (MIDLINE - self.canvas.x0)
        row = y - self.canvas.y0
        return cv2.remap(field, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def seen_at(self, field: Floats, rest: Floats) -> Floats:
        """float32 [..., 2]: where the skin that lies at `rest` [..., 2] is seen.

        The inverse of `apply`, by damped fixed-point iteration: skin under a dropped jaw is
        squeezed more than twofold, where full steps would swing.
        """
        seen = rest.copy()
        for _ in range(_INVERSE_STEPS):
            at = self.apply(field, seen[..., 0].copy(), seen[..., 1].copy())
            seen += 0.6 * (rest - at)
        return np.asarray(seen, np.float32)
