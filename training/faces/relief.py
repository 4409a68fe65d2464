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
    (-29.0, 15.0),
    (-23.0, 24.5),
    (-14.0, 31.5),
    (-3.0, 35.6),
    (10.0, 37.3),
    (24.0, 38.3),
    (38.0, 38.0),
    (49.0, 36.2),
    (59.0, 33.8),
    (68.0, 30.6),
    (75.0, 26.0),
    (80.5, 20.0),
    (84.6, 12.6),
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
    top = (-31.5, 0.0)
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
    inside, sine = outline_radius(identity, x * (1 - 0.012 * identity.skew * np.sign(x)), y)
    down = np.maximum(sine, 0.0)
    power = 2.7 + 4.0 * down**3
    # Kept short of the outline, where the slope would be endless and shade a black contour.
    rho = np.minimum(0.955 * inside, 0.985)
    z = HEAD_DEPTH * (1.0 - rho**power) ** (0.5 + 0.12 * down)
    z += _skull(identity, x, ax, y)
    z += _nose(identity, x, ax, y)
    z += _lower_face(identity, x, ax, y)
    rng = np.random.default_rng(identity.texture_seed)
    z += 0.13 * noise(canvas, 9.0, rng) * smoothstep(1.0, 0.7, inside)
    density = canvas.density
    edge = smoothstep(0.90, 1.0, inside)
    z = z * (1 - edge) + edge * blur(z, 1.5 * density)
    neck_half = 22.5 * (0.9 + 0.25 * identity.masculine)
    flare = 7.0 * smoothstep(84.0, 106.0, y) ** 2
    across = np.clip(ax / (neck_half + flare), 0, 0.999)
    neck = 24.0 * np.sqrt(1 - across**2) - 14.0
    tendon = ax - (17.0 - 0.42 * (y - 80.0))
    neck += 0.9 * np.exp(-((tendon / 3.2) ** 2)) * smoothstep(78.0, 92.0, y)
    neck += 1.8 * identity.masculine * bump(x, y, 0.0, 98.0, 2.8, 4.5)
    neck -= 2.2 * bump(x, y, 0.0, 109.0, 3.5, 4.0)
    return Relief(z.astype(np.float32), inside, neck.astype(np.float32))


def _skull(identity: Identity, x: Floats, ax: Floats, y: Floats) -> Floats:
    brow = identity.brow_y + 2.0
    male = identity.masculine
    z = (1.1 + 1.6 * male) * bump(ax, y, 14.0, brow, 9.0, 4.0)
    z = z - 6.2 * bump(ax, y, identity.eye_dx - 1.5, identity.eye_y - 1.0, 9.0, 5.6)
    z -= 3.2 * bump(ax, y, 8.5, identity.eye_y - 2.0, 3.6, 5.4)
    z += 4.0 * bump(ax, y, identity.eye_dx, identity.eye_y, 5.8, 4.0)
    z += 0.9 * bump(ax, y, identity.eye_dx + 3.0, identity.eye_y - 7.0, 8.0, 2.6)
    z -= (0.3 + 0.7 * identity.age) * bump(ax, y, 15.5, identity.eye_y + 7.5, 6.0, 1.6)
    z += (0.25 + 0.9 * identity.age) * bump(ax, y, 16.5, identity.eye_y + 5.2, 6.0, 1.5)
    fullness = 2.6 + 2.2 * identity.cheek
    z += fullness * bump(ax, y, 22.0, 44.0, 9.0, 8.0)
    z += 1.3 * bump(ax, y, 28.0, 39.0, 7.0, 3.6)
    z -= (2.6 - 2.4 * identity.cheek) * bump(ax, y, 25.0, 62.0, 7.0, 9.0)
    z -= 2.0 * bump(ax, y, 36.0, 10.0, 6.0, 12.0)
    z += 1.2 * bump(ax, y, 13.0, -2.0, 13.0, 10.0)
    return np.asarray(z, np.float32)


def _nose(identity: Identity, x: Floats, ax: Floats, y: Floats) -> Floats:
    base, wing, size = identity.nose_base, identity.nose_half, identity.nose_height
    x = x - 0.7 * identity.skew
    ax = np.abs(x)
    top = identity.brow_y + 6.0
    along = np.clip((y - top) / (base - 3.0 - top), 0.0, 1.0)
    height = size * (1.6 + 9.6 * along**1.2)
    half = 2.9 + 1.2 * along**2 + 0.7 * np.exp(-(((along - 0.35) / 0.22) ** 2))
    body = height * np.exp(-0.5 * (ax / (half + 0.6)) ** 2)
    start = smoothstep(top - 9.0, top + 3.0, y)
    skirt = 0.40 * height * np.exp(-0.5 * (ax / (2.2 * half)) ** 2)
    z = body * start * smoothstep(base + 1.4, base - 4.4, y + 0.05 * ax**2)
    z += skirt * start * smoothstep(base + 1.5, base - 9.0, y + 0.03 * ax**2)
    tip_y = base - 5.4
    z += 3.3 * size * bump(x, y, 0.0, tip_y, 0.42 * wing, 3.4)
    z -= 0.35 * size * bump(x, y, 0.0, tip_y + 0.4, 0.7, 2.4)
    ball = np.clip(1 - ((ax - wing + 3.6) / 4.0) ** 2 - ((y - base + 3.6) / 4.6) ** 2, 0, 1)
    z += 3.9 * np.sqrt(ball + 0.02) * smoothstep(0.0, 0.35, ball)
    z -= 1.3 * bump(ax, y, wing + 1.0, base - 3.2, 1.2, 3.8)
    z -= 0.8 * bump(ax, y, 0.62 * wing, base - 8.0, 1.2, 1.6)
    z -= 2.6 * bump(ax, y, 0.50 * wing, base - 0.4, 1.8, 0.9)
    z += 1.5 * bump(x, y, 0.0, base - 0.6, 1.7, 1.9)
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
    depth = 0.30 + 0.9 * identity.age + 0.35 * identity.cheek + 0.7 * identity.smile
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
