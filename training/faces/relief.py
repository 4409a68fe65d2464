"""The height of a face over its plane: head, brow, eyes, nose, muzzle, chin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from training.faces.canvas import Canvas, Floats, blur, bump, noise, smoothstep
from training.faces.identity import Identity

HEAD_DEPTH = 40.0  # from the cheekbones' outline to the front of the face
OUTLINE_CENTRE_Y = 24.0

# Half width of the head at some heights, forehead to chin, for an average face.
_OUTLINE = (
    (-36.0, 15.0),
    (-29.0, 25.0),
    (-18.0, 33.0),
    (-4.0, 37.0),
    (10.0, 38.3),
    (24.0, 38.6),
    (40.0, 37.4),
    (52.0, 35.2),
    (62.0, 32.4),
    (70.0, 28.6),
    (76.5, 23.6),
    (81.5, 17.6),
    (85.0, 10.5),
)


@dataclass(frozen=True, slots=True)
class Relief:
    """A face's height field on a canvas.

    Attributes:
        z: float32 [rows, columns] of the face, without lips and hair.
        inside: 0 at the head's centre .. 1 on its outline .. more outside.
        neck_z: the same of the neck and shoulders behind the chin.
    """

    z: Floats
    inside: Floats
    neck_z: Floats


def outline_radius(identity: Identity, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Distance from the head's centre over the outline's, and the sine of the angle (down = 1)."""
    rows = []
    stretch = (identity.chin_y - 87.0) / 40.0
    for height, half in _OUTLINE:
        low = float(np.clip((height - 40.0) / 30.0, 0.0, 1.0))
        chin = float(np.clip((height - 72.0) / 12.0, 0.0, 1.0))
        width = identity.face_width * (1 - low) + identity.jaw_width * low
        width *= 1 + (identity.chin_width - 1) * 0.8 * chin
        rows.append((height + stretch * max(height - 47.0, 0.0), half * width))
    top = (-38.5, 0.0)
    bottom = (identity.chin_y, 0.0)
    right = np.asarray([top, *rows, bottom])
    angle = np.arctan2(right[:, 0] - OUTLINE_CENTRE_Y, right[:, 1])
    radius = np.hypot(right[:, 0] - OUTLINE_CENTRE_Y, right[:, 1])
    spline = CubicSpline(angle, radius, bc_type="clamped")
    dy = y - OUTLINE_CENTRE_Y
    distance = np.hypot(x, dy)
    table_angle = np.linspace(-np.pi / 2, np.pi / 2, 512)
    table = spline(table_angle)
    pixel_angle = np.arctan2(dy, np.abs(x))
    limit = np.interp(pixel_angle, table_angle, table)
    sine = dy / np.maximum(distance, 1e-3)
    return (distance / limit).astype(np.float32), sine.astype(np.float32)


def build_relief(identity: Identity, canvas: Canvas) -> Relief:
    """The relief of a face at rest, mouth closed."""
    x, y = canvas.grid()
    ax = np.abs(x)
    inside, sine = outline_radius(identity, x, y)
    down = np.maximum(sine, 0.0)
    power = 2.7 + 4.0 * down**3
    rho = np.minimum(inside, 0.9985)
    z = HEAD_DEPTH * (1.0 - rho**power) ** (0.5 + 0.12 * down)
    z += _skull(identity, x, ax, y)
    z += _nose(identity, x, ax, y)
    z += _lower_face(identity, x, ax, y)
    rng = np.random.default_rng(identity.texture_seed)
    z += 0.28 * noise(canvas, 9.0, rng) * smoothstep(1.0, 0.7, inside)
    density = canvas.density
    edge = smoothstep(0.90, 1.0, inside)
    z = z * (1 - edge) + edge * blur(z, 1.5 * density)
    neck_half = 22.5 * (0.9 + 0.2 * identity.masculine)
    flare = smoothstep(92.0, 125.0, y) ** 2 * 30.0
    across = np.clip(ax / (neck_half + flare), 0, 0.999)
    neck = 24.0 * np.sqrt(1 - across**2) - 14.0
    neck += 1.2 * bump(ax, y, 9.0 + 0.0, 104.0, 3.0, 14.0)
    return Relief(z.astype(np.float32), inside, neck.astype(np.float32))


def _skull(identity: Identity, x: Floats, ax: Floats, y: Floats) -> Floats:
    brow = identity.brow_y + 2.0
    male = identity.masculine
    z = (1.1 + 1.6 * male) * bump(ax, y, 14.0, brow, 9.0, 4.0)
    z = z - 5.4 * bump(ax, y, identity.eye_dx - 1.5, identity.eye_y - 0.5, 8.6, 5.2)
    z -= 2.6 * bump(ax, y, 8.5, identity.eye_y - 2.0, 3.6, 5.0)
    z += 3.8 * bump(ax, y, identity.eye_dx, identity.eye_y, 6.0, 4.3)
    z -= (0.3 + 0.7 * identity.age) * bump(ax, y, 15.5, identity.eye_y + 7.5, 6.0, 1.6)
    z += (0.25 + 0.9 * identity.age) * bump(ax, y, 16.5, identity.eye_y + 5.2, 6.0, 1.5)
    fullness = 2.6 + 2.2 * identity.cheek
    z += fullness * bump(ax, y, 22.0, 44.5, 9.5, 9.0)
    z -= (2.6 - 2.4 * identity.cheek) * bump(ax, y, 25.0, 62.0, 7.0, 9.0)
    z -= 2.0 * bump(ax, y, 36.0, 10.0, 6.0, 12.0)
    z += 1.2 * bump(ax, y, 13.0, -2.0, 13.0, 10.0)
    return np.asarray(z, np.float32)


def _nose(identity: Identity, x: Floats, ax: Floats, y: Floats) -> Floats:
    base = identity.nose_base
    top = identity.brow_y + 6.0
    along = np.clip((y - top) / (base - 3.0 - top), 0.0, 1.0)
    height = identity.nose_height * (1.2 + 9.2 * along**1.25)
    half = 3.0 + 2.2 * along**2
    body = height * np.exp(-0.5 * (ax / (half + 0.6)) ** 2)
    start = smoothstep(top - 9.0, top + 3.0, y)
    skirt = 0.42 * height * np.exp(-0.5 * (ax / (2.1 * half)) ** 2)
    z = body * start * smoothstep(base + 1.0, base - 3.6, y + 0.05 * ax**2)
    z += skirt * start * smoothstep(base + 1.0, base - 9.0, y + 0.03 * ax**2)
    tip_y = base - 5.2
    z += 3.0 * identity.nose_height * bump(x, y, 0.0, tip_y, 4.3, 3.5)
    wing = identity.nose_half
    ball = np.clip(1 - ((ax - wing + 3.9) / 4.4) ** 2 - ((y - base + 3.9) / 4.9) ** 2, 0, 1)
    z += 3.4 * ball
    z -= 1.1 * bump(ax, y, wing + 1.4, base - 2.6, 1.5, 4.2)
    z -= 3.4 * bump(ax, y, 0.47 * wing, base - 0.6, 1.9, 1.0)
    z += 1.6 * bump(x, y, 0.0, base - 1.0, 1.8, 1.8)
    return np.asarray(z, np.float32)


def fold_distance(identity: Identity, ax: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Signed distance across the nasolabial fold (outside positive) and 0..1 along it."""
    start_y, end_y = identity.nose_base - 4.0, identity.mouth_y + 4.0
    along = np.clip((y - start_y) / (end_y - start_y), 0.0, 1.0)
    line = identity.nose_half + 1.6 + (identity.mouth_half + 4.6 - identity.nose_half) * along**1.2
    across = (ax - line) * 0.82
    within = smoothstep(start_y - 2.5, start_y + 3.0, y) * smoothstep(end_y + 5.0, end_y - 5.0, y)
    return np.asarray(across, np.float32), within


def _lower_face(identity: Identity, x: Floats, ax: Floats, y: Floats) -> Floats:
    mouth, base, chin = identity.mouth_y, identity.nose_base, identity.chin_y
    z = 3.4 * bump(x, y, 0.0, mouth - 1.0, 13.5, 9.0)
    across, within = fold_distance(identity, ax, y)
    depth = 0.35 + 0.9 * identity.age + 0.35 * identity.cheek
    z += within * depth * (np.tanh(across / 1.5) * np.exp(-((across / 7.0) ** 2)))
    philtrum = smoothstep(base - 0.5, base + 2.5, y) * smoothstep(mouth + 1, mouth - 3.0, y)
    z += philtrum * (0.42 * np.exp(-0.5 * ((ax - 2.7) / 1.0) ** 2))
    z -= philtrum * 0.6 * np.exp(-0.5 * (x / 1.5) ** 2)
    z -= 1.1 * bump(ax, y, identity.mouth_half + 2.2, mouth + 0.8, 2.6, 3.0)
    sulcus = mouth + identity.lower_lip + 4.4
    z -= 2.2 * bump(x, y, 0.0, sulcus, 9.5, 2.4)
    z += 3.2 * bump(x, y, 0.0, chin - 6.2, 8.0 * identity.chin_width, 4.6)
    z -= (0.5 + 0.9 * identity.age) * bump(ax, y, 17.5, mouth + 9.5, 2.6, 6.0)
    cleft = identity.masculine * 0.5
    z -= cleft * bump(x, y, 0.0, chin - 5.0, 1.2, 2.6)
    return np.asarray(z, np.float32)
