"""Draws hairs: many fine curved lines, each lit as a fibre."""

from __future__ import annotations

import cv2
import numpy as np

from engine.media import U8
from training.faces.canvas import Canvas, Floats
from training.faces.identity import Colour
from training.faces.light import Light, behind_light, tone

_SHIFT = 4  # cv2's fixed-point bits for sub-pixel line ends


def _pixels(canvas: Canvas, paths: Floats) -> Floats:
    return np.asarray((paths + canvas.origin()) * canvas.density)


def visible(canvas: Canvas, paths: Floats) -> Floats:
    """bool [n, points - 1]: whether a segment of strands [n, points, 2] lies on the canvas."""
    pixels = _pixels(canvas, paths)
    low, high = pixels.min(axis=2), pixels - np.asarray([canvas.columns, canvas.rows])
    seen = np.asarray((low > -8) & (high.max(axis=2) < 8))
    return np.asarray(seen[:, :-1] & seen[:, 1:])


def draw_strands(layer: U8, canvas: Canvas, paths: Floats, colours: Floats, width: float) -> None:
    """Draw strands into a premultiplied uint8 [rows, columns, 4] layer.

    Args:
        paths: [n, points, 2] in units, x relative to the midline.
        colours: [n, points - 1, 3], display colours 0..1.
        width: in units; never less than a pixel.
    """
    seen = visible(canvas, paths)
    fixed = np.round(_pixels(canvas, paths) * (1 << _SHIFT)).astype(np.int64)
    thickness = max(1, round(width * canvas.density))
    begins, ends = fixed[:, :-1][seen].tolist(), fixed[:, 1:][seen].tolist()
    shades = np.clip(colours[seen] * 255.0, 0, 255).tolist()
    for begin, end, (red, green, blue) in zip(begins, ends, shades, strict=True):
        colour = (red, green, blue, 255.0)
        cv2.line(layer, begin, end, colour, thickness, cv2.LINE_AA, _SHIFT)


def light_strands(
    paths: Floats,
    colour: Colour,
    light: Light,
    rng: np.random.Generator,
    *,
    shade: Floats | float = 1.0,
    variety: float = 0.20,
    gloss: float = 1.0,
) -> Floats:
    """Display colours [n, points - 1, 3] of strands that lie on a head.

    Diffuse light from the head's roundness, and two highlights along the fibre: a
    white one and one in the hair's own colour (Kajiya and Kay's model).

    Args:
        paths: [n, points, 2] in units.
        shade: [n, points - 1] or a number: share of light that arrives.
    """
    centre = np.asarray([0.0, 22.0])
    flat = (paths - centre) / np.asarray([50.0, 74.0])
    depth = np.sqrt(np.clip(1.05 - (flat**2).sum(2), 0.02, None))
    space = np.concatenate([paths, 46.0 * depth[..., None]], axis=2)
    tangent = np.diff(space, axis=1)
    tangent /= np.linalg.norm(tangent, axis=2, keepdims=True) + 1e-6
    middle = (flat[:, 1:] + flat[:, :-1]) / 2
    normal = np.concatenate(
        [middle / np.asarray([50.0, 74.0]) * 50.0, (depth[:, 1:, None] + depth[:, :-1, None]) / 2],
        axis=2,
    )
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    key = np.asarray(light.key)
    half = key + np.asarray([0.0, 0.0, 1.0])
    half /= np.linalg.norm(half)
    facing = np.clip((normal @ key + 0.35) / 1.35, 0, 1)
    along = tangent @ key
    diffuse = np.sqrt(np.clip(1 - along**2, 0, 1)) * facing
    offset = rng.normal(0, 0.06, (len(paths), 1))
    spread = np.clip(1 - (tangent @ half + offset) ** 2, 0, 1)
    white = spread**60 * facing
    tinted = np.clip(1 - (tangent @ half + 2 * offset) ** 2, 0, 1) ** 12 * facing
    tone_of_strand = np.exp(rng.normal(0.0, variety, (len(paths), 1)))
    up = 0.5 - 0.5 * normal[..., 1]
    behind = behind_light((normal[..., 0], normal[..., 1], normal[..., 2]), light)
    base = np.asarray(colour)
    tint = base / max(base.max(), 1e-3)
    out = np.empty((*middle.shape[:2], 3))
    for c in range(3):
        sky = 0.5 * (light.sky[c] * up + light.ground[c] * (1 - up)) + 0.4 * light.fill_colour[c]
        body = base[c] * tone_of_strand * (light.key_colour[c] * diffuse + sky)
        shine = light.key_colour[c] * (
            0.035 * gloss * white + 0.42 * gloss * tinted * (base[c] * 0.6 + 0.05 * tint[c])
        )
        glow = light.rim_colour[c] * behind * (0.5 * base[c] + 0.10)
        out[..., c] = (body + shine * tone_of_strand) * shade + glow * tone_of_strand
    return tone(out * light.exposure)
