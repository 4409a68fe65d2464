"""Lips, teeth, tongue and the dark between them, painted over a patch of skin."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from training.faces.canvas import Floats
from training.faces.identity import Identity
from training.faces.light import Light, shade, tone
from training.faces.lips import COLUMNS, INCISOR_SHOW, REACH, MouthShape

# Upper teeth from the midline outwards: width, how much shorter than the incisors.
_TEETH = ((4.7, 0.0), (3.7, 0.55), (4.0, 0.15), (3.1, 0.55), (2.5, 0.8), (2.2, 1.0))
_TOOTH_SAMPLES = 321


@dataclass(frozen=True, slots=True)
class MouthPainter:
    """What painting one face's mouth under one light needs, made once.

    Attributes:
        creases: float32 [1, n] brightness along the lips' vertical creases, two rows:
            upper and lower lip.
        upper_teeth: float32 [1, n, 3]: brightness, edge height and gum line at x.
        lower_teeth: the same of the lower row.
    """

    identity: Identity
    light: Light
    creases: Floats
    upper_teeth: Floats
    lower_teeth: Floats

    @classmethod
    def build(cls, identity: Identity, light: Light) -> MouthPainter:
        rng = np.random.default_rng(identity.texture_seed + 2)
        crease = rng.standard_normal((2, COLUMNS)).astype(np.float32)
        fine = cv2.GaussianBlur(crease, (0, 0), 2.2, sigmaY=0.01)
        wide = cv2.GaussianBlur(crease, (0, 0), 7.0, sigmaY=0.01)
        creases = fine / fine.std() * 0.7 + wide / wide.std() * 0.6
        return cls(
            identity,
            light,
            creases.astype(np.float32),
            _tooth_row(identity, 1.0, rng),
            _tooth_row(identity, 0.72, rng),
        )

    def paint(self, skin: Floats, x: Floats, y: Floats, shape: MouthShape, pixel: float) -> None:
        """Paint the mouth into `skin`.

        Args:
            skin: float32 [h, w, 3] display colours 0..1, changed in place.
            x, y: float32 [h, w] face units of each pixel, x relative to the midline,
                y relative to the closed mouth's line.
            shape: the mouth.
            pixel: units a pixel spans, for soft edges.
        """
        table = np.ascontiguousarray(shape.contours[None])
        column = (x + REACH) * ((COLUMNS - 1) / (2 * REACH))
        zero = np.zeros_like(x)
        edges = cv2.remap(table, column, zero, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        outer_up, inner_up, inner_down, outer_down = cv2.split(edges)
        s = x / shape.half
        within = np.clip((1.0 - np.abs(s)) * (shape.half / 0.9), 0.0, 1.0)
        self._shade_skin(skin, x, y, shape, outer_up, outer_down)

        soft = max(pixel, 0.12)
        gap = inner_down - inner_up
        hole = np.clip((y - inner_up) / soft + 0.5, 0, 1)
        hole *= np.clip((inner_down - y) / soft + 0.5, 0, 1)
        hole *= np.clip(gap / 0.25, 0, 1) * within
        if shape.gap > 0.15:
            box = _box(hole)
            inside = self._cavity(x[box], y[box], s[box], shape, inner_up[box], inner_down[box])
            _lay(skin[box], inside, hole[box])

        edge = 0.30 + 0.35 * (1 - self.identity.lipstick)
        for upper in (True, False):
            outer, inner = (outer_up, inner_up) if upper else (outer_down, inner_down)
            sign = 1.0 if upper else -1.0
            cover = np.clip(sign * (y - outer) / edge + 0.35, 0, 1)
            cover *= np.clip(sign * (inner - y) / soft + 0.5, 0, 1) * within
            box = _box(cover)
            outer, inner = outer[box], inner[box]
            depth = sign * (y[box] - outer) / np.maximum(sign * (inner - outer), 0.25)
            depth = np.clip(depth, 0, 1)
            colour = self._lip(s[box], column[box], depth, shape, upper)
            _lay(skin[box], colour, cover[box])
        self._seam(skin, x, y, s, shape, inner_up, inner_down, within)

    def _shade_skin(
        self,
        skin: Floats,
        x: Floats,
        y: Floats,
        shape: MouthShape,
        outer_up: Floats,
        outer_down: Floats,
    ) -> None:
        """Shadow under the lower lip, light rim over the upper one, dark corners."""
        below = np.maximum(y - outer_down, 0.0)
        side = np.clip(1.0 - (x / shape.half) ** 2, 0.0, 1.0)
        dark = 0.30 * np.exp(-((below / (2.0 + 0.4 * max(shape.bulge, 0))) ** 2)) * side
        dark *= 0.8 - 0.5 * self.light.key[1] + 0.15 * shape.bulge
        dark *= np.where(y > outer_down, 0.4 + 0.6 * np.clip(below / 0.4, 0, 1), 0.0)
        above = np.maximum(outer_up - y, 0.0)
        dark -= 0.075 * np.exp(-(((above - 0.8) / 0.6) ** 2)) * side
        ax = np.abs(x)
        corner = np.exp(-(((ax - shape.half - 0.5) / 1.5) ** 2 + ((y - shape.corner_y) / 1.7) ** 2))
        strength = (
            0.20 + 0.22 * shape.press + 0.10 * max(shape.half / self.identity.mouth_half - 1, 0)
        )
        dark += strength * corner
        spread = np.clip((shape.half / self.identity.mouth_half - 1) / 0.19, -1, 1)
        if abs(spread) > 0.02:
            fold = ax - shape.half - 4.6 - 0.16 * (y + 4.0)
            zone = (
                np.exp(-(((y + 1.0) / 4.6) ** 2))
                * np.clip((shape.half + 6.8 - ax) / 2.0, 0, 1)
                * (1.0 if spread > 0 else 0.25)
            )
            dark += (
                spread
                * 0.15
                * (np.exp(-((fold / 1.3) ** 2)) - 0.5 * np.exp(-(((fold - 2.6) / 2) ** 2)))
                * zone
            )
        if shape.press > 0.02:
            puckers = np.exp(-(((y - outer_down - 3.4) / 1.6) ** 2)) * side
            dark += 0.09 * shape.press * puckers
        light = 1.0 - dark
        skin[..., 0] *= light**0.85
        skin[..., 1] *= light
        skin[..., 2] *= light

    def _lip(
        self, s: Floats, column: Floats, depth: Floats, shape: MouthShape, upper: bool
    ) -> Floats:
        """Display colour of a lip; `depth` is 0 at its outer edge and 1 at its inner."""
        identity = self.identity
        row = np.full_like(s, 0.0 if upper else 1.0)
        crease = cv2.remap(self.creases, column, row, cv2.INTER_LINEAR)
        crease = crease * np.sin(np.pi * np.clip(depth, 0, 1)) * (1 - 0.5 * shape.press)
        bulge = 1.0 + 0.25 * shape.bulge
        if upper:  # concave at the bow, then turns down and under
            tilt = -0.10 + (1.25 * depth - 0.25) * bulge
        else:
            tilt = (0.85 - 1.75 * (1 - depth) ** 1.0) * -1.0 * bulge
            tilt = np.where(depth > 0.85, tilt - 2.0 * (depth - 0.85), tilt)
        curve = s * (0.45 + 0.25 * max(shape.bulge, 0)) + 0.10 * crease
        length = 1.0 / np.sqrt(tilt * tilt + curve * curve + 1.0)
        normal = (curve * length, tilt * length, length)
        wet = np.clip((depth - 0.55) / 0.45, 0, 1)
        albedo = np.empty((*s.shape, 3), np.float32)
        centre = 1.0 - 0.35 * np.abs(s)
        for c, (deep, pale) in enumerate(((0.30, 0.06), (0.42, 0.10), (0.38, 0.10))):
            value = identity.lip[c] * (1 + 0.13 * crease + pale * centre)
            albedo[..., c] = value * (1 - deep * wet**2)
        shaded = 1.0 - (0.55 if upper else 0.35) * wet**2.5
        gloss = identity.lip_gloss * (0.24 if upper else 0.46) * (1 + 0.6 * crease)
        return shade(
            albedo,
            normal,
            self.light,
            occlusion=shaded,
            shadow=shaded * (0.86 if upper else 1.0),
            gloss=np.maximum(gloss, 0.0),
            sharpness=44.0,
            scatter=0.6,
        )

    def _seam(
        self,
        skin: Floats,
        x: Floats,
        y: Floats,
        s: Floats,
        shape: MouthShape,
        inner_up: Floats,
        inner_down: Floats,
        within: Floats,
    ) -> None:
        """The dark line where lips meet and the shadow that lips throw on each other."""
        gap = inner_down - inner_up
        closed = np.exp(-((gap / 0.9) ** 2))
        line = np.exp(-(((y - inner_up) / (0.42 + 0.10 * shape.press)) ** 2)) * closed
        line *= np.clip((1.04 - np.abs(s)) / 0.14, 0, 1) * (1 - 0.35 * np.abs(s) ** 3)
        upper_edge = np.exp(-(((y - inner_up) / 0.45) ** 2)) * (1 - closed) * within * 0.4
        dark = np.clip(0.74 * line + upper_edge, 0, 0.9)
        skin *= 1 - dark[..., None] * np.asarray([0.82, 0.93, 0.90], np.float32)

    def _cavity(
        self,
        x: Floats,
        y: Floats,
        s: Floats,
        shape: MouthShape,
        inner_up: Floats,
        inner_down: Floats,
    ) -> Floats:
        """Display colour of what is seen between the lips."""
        light = self.light
        level = light.exposure * (
            0.75 * max(light.key[2], 0.2) * np.asarray(light.key_colour)
            + 0.5 * np.asarray(light.fill_colour)
            + 0.5 * (np.asarray(light.sky) + np.asarray(light.ground))
        )
        span = np.maximum(inner_down - inner_up, 0.3)
        t = np.clip((y - inner_up) / span, 0, 1)
        side = np.clip(1 - 0.80 * np.abs(s) ** 1.7, 0.12, 1.0)
        colour = np.empty((*x.shape, 3), np.float32)
        deep = side * (0.25 + 0.75 * t)
        for c, value in enumerate((0.042, 0.0095, 0.0085)):
            colour[..., c] = level[c] * value * deep

        # Tongue: a mound that rests behind the lower teeth or lifts its tip to the upper ones.
        lower_edge = INCISOR_SHOW + 0.25 + shape.jaw
        rest_top = lower_edge - 0.2 - 0.42 * shape.jaw
        top = rest_top + (INCISOR_SHOW - 0.4 - rest_top) * shape.tongue
        half = 9.0 - 2.0 * shape.tongue
        crown = top + 3.6 * np.clip(x / half, -1.2, 1.2) ** 2
        under = np.clip((y - crown) / 0.9, 0, 1)
        roundness = np.clip((y - crown) / 6.0, 0, 1)
        groove = 1 - 0.16 * np.exp(-((x / 0.8) ** 2)) * (1 - 0.5 * shape.tongue)
        bright = (0.40 + 0.42 * shape.tongue) * (1.0 - 0.50 * roundness) * groove
        away = np.clip((y - inner_up) / 3.0, 0, 1)
        bright *= 0.35 + 0.65 * np.maximum(away, 0.8 * shape.tongue)
        glow = 0.05 * np.exp(-(((y - crown - 1.6) / 0.8) ** 2)) * np.exp(-(((x - 2.0) / 3.0) ** 2))
        tongue = np.empty_like(colour)
        for c, value in enumerate((0.50, 0.165, 0.155)):
            tongue[..., c] = level[c] * side * (value * bright + glow)
        _lay(colour, tongue, under)

        zero = np.zeros_like(x)
        column = (x + REACH) * ((_TOOTH_SAMPLES - 1) / (2 * REACH))
        shadow_of_lip = np.clip((y - inner_up + 0.2) / 2.6, 0, 1)
        for upper in (False, True):
            rows = self.upper_teeth if upper else self.lower_teeth
            looked_up = cv2.remap(rows, column, zero, cv2.INTER_LINEAR)
            shine, edge, gum = cv2.split(looked_up)
            if upper:
                rim = shape.show - edge
                cover = np.clip((rim - y) / 0.30 + 0.5, 0, 1)
                body = np.clip((rim - y) / 1.3, 0, 1)
                lit = (0.30 + 0.70 * shadow_of_lip) * (0.80 + 0.20 * body)
                lit *= 1 - 0.2 * (INCISOR_SHOW - shape.show)
                gums = np.clip((rim - 8.6 + gum - y) / 0.6, 0, 1)
            else:
                rim = lower_edge + edge
                cover = np.clip((y - rim) / 0.30 + 0.5, 0, 1)
                reach = np.clip((inner_down - y) / 1.4, 0, 1)
                lit = (0.34 + 0.22 * shadow_of_lip) * (0.5 + 0.5 * reach)
                gums = np.clip((y - rim - 7.0 - gum) / 0.6, 0, 1)
            shine = shine * lit * side * (0.80 + 0.20 * shape.teeth)
            tooth = np.empty_like(colour)
            tint = self.identity.teeth_tint
            for c, (part, pink) in enumerate(zip(tint, (0.42, 0.16, 0.15), strict=True)):
                tooth[..., c] = level[c] * shine * (0.68 * part * (1 - gums) + pink * gums)
            _lay(colour, tooth, cover)
        return tone(colour)


def _lay(below: Floats, colour: Floats, cover: Floats) -> None:
    below += (colour - below) * cover[..., None]


def _box(cover: Floats) -> tuple[slice, slice]:
    """The smallest rectangle with all of `cover`, one pixel at least."""
    rows = np.flatnonzero(cover.max(1) > 0)
    columns = np.flatnonzero(cover.max(0) > 0)
    if len(rows) == 0:
        return slice(0, 1), slice(0, 1)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _tooth_row(identity: Identity, scale: float, rng: np.random.Generator) -> Floats:
    """float32 [1, _TOOTH_SAMPLES, 3]: brightness, shortening and gum line along x."""
    x = np.linspace(-REACH, REACH, _TOOTH_SAMPLES)
    bright = np.full(_TOOTH_SAMPLES, 0.2)
    edge = np.full(_TOOTH_SAMPLES, 1.4)
    gum = np.zeros(_TOOTH_SAMPLES)
    lower = scale < 1
    for sign in (-1.0, 1.0):
        start = 0.0
        for index, (width, short) in enumerate(_TEETH):
            span = width * identity.tooth_width * (0.60 + 0.05 * index if lower else 1.0)
            end = start + span
            inside = (sign * x >= start) & (sign * x < end)
            u = (sign * x[inside] - (start + end) / 2) / (span / 2)
            fall = 1.0 - 0.0030 * ((start + end) / 2) ** 2
            tone_of_tooth = rng.normal(1.0, 0.025)
            gapped = 0.42 * np.exp(-(((1 - np.abs(u)) / 0.11) ** 2))
            bright[inside] = fall * tone_of_tooth * (1 - 0.24 * u**2 - gapped)
            rounded = 0.42 * np.abs(u) ** 3.5
            edge[inside] = (0.35 * short if lower else short) + rounded + 0.005 * start**2
            gum[inside] = 1.6 * np.abs(u) ** 2.2
            start = end
    return np.stack([bright, edge, gum], axis=1).astype(np.float32)[None]
