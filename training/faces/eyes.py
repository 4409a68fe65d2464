"""Eyes, painted frame by frame so that they blink and look about."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.media import U8
from training.faces.canvas import Floats
from training.faces.identity import Identity
from training.faces.light import Light, tone

HALF_WIDTH = 9.1  # inner to outer corner, half, at eye_size 1
IRIS = 3.5  # radius


@dataclass(frozen=True, slots=True)
class Gaze:
    """Where the eyes look (units of iris travel, x right, y down) and how shut they are."""

    x: float = 0.0
    y: float = 0.0
    blink: float = 0.0


@dataclass(frozen=True, slots=True)
class EyePainter:
    """Paints both eyes of one identity under one light."""

    identity: Identity
    light: Light
    streaks: Floats

    @classmethod
    def build(cls, identity: Identity, light: Light) -> EyePainter:
        rng = np.random.default_rng(identity.texture_seed + 4)
        rough = np.tile(rng.standard_normal((1, 360)).astype(np.float32), 3)
        spokes = cv2.GaussianBlur(rough, (0, 0), 1.6, sigmaY=0.01)[:, 360:720]
        return cls(identity, light, spokes / spokes.std())

    def paint(self, skin: U8, x: Floats, y: Floats, gaze: Gaze, pixel: float) -> None:
        """Paint both eyes into uint8 [h, w, 3]; x, y are face units, x from the midline."""
        identity = self.identity
        for side in (-1.0, 1.0):
            cx, cy = side * identity.eye_dx, identity.eye_y
            near = (np.abs(x[::4, ::4] - cx) < 13.5) & (np.abs(y[::4, ::4] - cy) < 11.0)
            rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
            if len(rows) == 0 or len(columns) == 0:
                continue
            area = (
                slice(4 * rows[0], 4 * rows[-1] + 4),
                slice(4 * columns[0], 4 * columns[-1] + 4),
            )
            patch = skin[area].astype(np.float32) / 255.0
            out = side * (x[area] - cx)
            down = y[area] - cy + identity.eye_tilt * out
            self._eye(patch, out, down, side, gaze, pixel)
            skin[area] = np.clip(patch * 255.0 + 0.5, 0, 255).astype(np.uint8)

    def _eye(
        self, skin: Floats, x: Floats, y: Floats, side: float, gaze: Gaze, pixel: float
    ) -> None:
        identity = self.identity
        half = HALF_WIDTH * identity.eye_size
        female = 1 - identity.masculine
        s = np.clip(x / half, -1.25, 1.25)
        arch = np.clip(1 - np.abs(s + 0.08) ** 2.3, 0, 1) ** 0.72
        belly = np.clip(1 - np.abs(s - 0.10) ** 2.4, 0, 1) ** 0.85
        squint = identity.squint
        high = 3.62 - 0.5 * identity.monolid - 0.4 * identity.age - 0.7 * squint
        high *= identity.eye_size * (1 - 0.03 * side * identity.skew)
        low = (2.45 - 0.55 * squint) * identity.eye_size
        blink = float(np.clip(gaze.blink, 0, 1))
        lower = (low - 0.5 * blink) * belly + 0.6 * np.clip(-s - 0.75, 0, 1)
        opened = -high * arch + 0.35 * np.maximum(gaze.y, 0) * arch
        upper = opened * (1 - blink) + (lower - 0.15) * blink
        soft = max(pixel * 1.3, 0.16)
        within = np.clip((1 - np.abs(s)) * half / 0.5, 0, 1)
        hole = np.clip((y - upper) / soft + 0.5, 0, 1) * np.clip((lower - y) / soft + 0.5, 0, 1)
        hole = hole * within

        self._lids(skin, x, y, s, upper, opened, lower, blink)
        ball = self._ball(x, y, s, side, upper, lower, gaze)
        skin += (ball - skin) * hole[..., None]

        # Lash line: thick on the upper lid towards the outer corner, thin below.
        tail = np.clip((1.13 - np.abs(s)) / 0.13, 0, 1)
        weight = 0.30 + 0.22 * female + 0.22 * np.clip(s, 0, 1) * (0.3 + female)
        line = np.exp(-(((y - upper + 0.22) / weight) ** 2)) * tail
        line *= 1 - 0.65 * np.clip(-s - 0.55, 0, 1) / 0.45
        skin *= 1 - (0.66 + 0.20 * female) * line[..., None] * np.asarray([0.88, 0.95, 0.97])
        under = np.exp(-(((y - lower - 0.25) / 0.34) ** 2)) * tail * np.clip(s + 0.8, 0, 1)
        skin *= 1 - (0.20 + 0.12 * female) * under[..., None] * np.asarray([0.8, 0.95, 1.0])
        self._lashes(skin, x, y, s, upper, half, female, blink)

    def _lids(
        self,
        skin: Floats,
        x: Floats,
        y: Floats,
        s: Floats,
        upper: Floats,
        opened: Floats,
        lower: Floats,
        blink: float,
    ) -> None:
        """Crease, the lid's roundness, and the shadow in the inner corner."""
        identity = self.identity
        tail = np.clip((1.18 - np.abs(s)) / 0.4, 0, 1)
        lift = 1.9 - 1.2 * identity.monolid
        crease = opened - lift * (0.75 + 0.25 * s) - 0.1
        fade = (0.44 - 0.20 * blink) * (1 - 0.55 * identity.monolid)
        dark = fade * np.exp(-(((y - crease) / 0.48) ** 2)) * tail
        dark += 0.13 * np.exp(-(((y - crease + 1.3) / 1.6) ** 2)) * tail * (y < crease + 1)
        dark += 0.12 * np.exp(-(((x + 7.0) / 4.0) ** 2 + ((y - crease + 2.5) / 3.0) ** 2))
        on_lid = np.clip((y - crease) / 0.5, 0, 1) * np.clip((upper - y) / 0.5, 0, 1) * tail
        dark -= 0.07 * on_lid
        dark += 0.10 * blink * np.exp(-(((y - lower + 1.2) / 1.2) ** 2)) * tail
        bag = np.exp(-(((y - lower - 3.0) / 0.9) ** 2)) * tail
        dark += (0.05 + 0.10 * identity.age) * bag
        inner = np.exp(-(((x + 10.0) / 2.2) ** 2 + ((y + 0.4) / 2.6) ** 2))
        dark += 0.16 * inner
        female = 1 - identity.masculine
        dark += 0.06 * female * on_lid
        skin *= 1 - dark[..., None] * np.asarray([0.85, 1.0, 1.0])

    def _ball(
        self, x: Floats, y: Floats, s: Floats, side: float, upper: Floats, lower: Floats, gaze: Gaze
    ) -> Floats:
        identity, light = self.identity, self.light
        level = light.exposure * (
            0.55 * light.key_colour[1] * max(light.key[2], 0.3)
            + 0.45 * light.fill_colour[1]
            + 0.5 * (light.sky[1] + light.ground[1])
        )
        level = float(np.clip(level, 0.45, 1.5))
        round_x = 1 - 0.42 * np.abs(s) ** 1.8 + 0.16 * side * light.key[0] * s
        lid_shadow = 1 - 0.60 * np.exp(-np.maximum(y - upper, 0) / 1.5)
        lid_shadow *= 1 - 0.22 * np.exp(-np.maximum(lower - y, 0) / 0.8)
        lit = level * round_x * lid_shadow
        white = np.empty((*x.shape, 3))
        corner = np.exp(-(((s + 0.93) / 0.13) ** 2))
        flush = 0.10 * np.abs(s) ** 2 + 0.75 * corner
        for c, value in enumerate((0.58, 0.545, 0.515)):
            tint = (0.0, 0.42, 0.45)[c]
            white[..., c] = value * lit * (1 - tint * flush)

        gx, gy = side * gaze.x, gaze.y
        dx, dy = x - gx + 0.15, y - gy + 0.12
        distance = np.hypot(dx, dy) / (IRIS * identity.eye_size**0.5)
        angle = (np.degrees(np.arctan2(dy, dx)) % 360).astype(np.float32)
        spokes = cv2.remap(
            self.streaks, angle, np.zeros_like(angle), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
        )
        ring = np.clip((distance - 0.70) / 0.30, 0, 1)
        glow = 1 + 0.55 * (-side * light.key[0] * dx - light.key[1] * dy) / IRIS
        collar = np.exp(-(((distance - 0.50) / 0.12) ** 2))
        tone_of_iris = (1.15 + 0.22 * spokes) * (1 - 0.72 * ring**2) * np.clip(glow, 0.4, 1.7)
        pupil = np.clip((0.38 - distance) / 0.06 + 0.5, 0, 1)
        cover = np.clip((1.0 - distance) / 0.09 + 0.3, 0, 1)
        for c in range(3):
            base = identity.iris[c] * 1.6 * tone_of_iris + (0.05, 0.03, 0.0)[c] * collar
            iris = base * lit * (1 - pupil) + 0.004 * pupil
            white[..., c] += (iris - white[..., c]) * cover
        spot_x, spot_y = 1.25 * light.key[0] * side, -1.3
        glint = np.exp(-((((dx - spot_x) / 0.62) ** 2 + ((dy - spot_y) / 0.72) ** 2) ** 2))
        second = 0.16 * np.exp(-(((dx + spot_x) / 0.7) ** 2 + ((dy - 1.4) / 0.6) ** 2))
        wet = 0.16 * np.exp(-(((y - lower + 0.35) / 0.30) ** 2)) * (np.abs(s) < 0.9)
        white += (0.95 * glint + second + wet)[..., None]
        # The lower lid's wet rim, seen from above.
        rim = (
            np.clip((y - lower + 0.62) / 0.3, 0, 1)[..., None] * np.clip(1 - s * s, 0, 1)[..., None]
        )
        flesh = np.asarray(identity.skin) * np.asarray([0.95, 0.72, 0.72]) * level
        white += (flesh - white) * 0.75 * rim
        return tone(white)

    def _lashes(
        self,
        skin: Floats,
        x: Floats,
        y: Floats,
        s: Floats,
        upper: Floats,
        half: float,
        female: float,
        blink: float,
    ) -> None:
        """A fringe of dark hairs over the upper lid, fanning outwards."""
        length = (1.0 + 1.5 * female) * (0.55 + 0.45 * np.clip(s + 0.4, 0, 1.4))
        away = (upper - y) if blink < 0.6 else (y - upper)
        reach = np.clip(away / length, 0, 1.2)
        root = s - 0.16 * reach * (0.35 + s)
        comb = 0.5 + 0.5 * np.cos(root * half * 2 * np.pi / 0.92)
        hair = np.clip(comb - 0.25 - 0.75 * reach, 0, 1) * (away > -0.1) * (np.abs(root) < 0.9)
        hair = hair * np.clip(s + 0.9, 0, 1)
        skin *= 1 - (0.25 + 0.35 * female) * np.clip(hair, 0, 1)[..., None]
