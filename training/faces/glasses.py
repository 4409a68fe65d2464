"""Spectacles: a frame, a bridge, thin lenses that mirror a window."""

from __future__ import annotations

import numpy as np

from engine.media import U8
from training.faces.canvas import Canvas, Floats, blur, smoothstep
from training.faces.identity import Identity
from training.faces.light import Light, shade
from training.faces.skin import premultiply

LENS_DROP = 3.2  # units that a lens' centre sits below the pupil


def paint_glasses(identity: Identity, light: Light, canvas: Canvas) -> U8:
    """uint8 [rows, columns, 4], premultiplied: the spectacles over the face plane."""
    rng = np.random.default_rng(identity.texture_seed + 6)
    x, y = canvas.grid()
    round_, half_x, half_y = rng.uniform(2.2, 6.0), rng.uniform(13.5, 16.0), rng.uniform(9.5, 12.0)
    thick = rng.uniform(0.32, 0.85)
    colour = np.asarray([0.02, 0.016, 0.014]) if rng.random() < 0.6 else rng.uniform(0.02, 0.3, 3)
    ax = np.abs(x)
    centre_y = identity.eye_y + LENS_DROP
    dx, dy = (ax - identity.eye_dx - 0.4) / half_x, (y - centre_y) / half_y
    radius = (np.abs(dx) ** round_ + np.abs(dy) ** round_) ** (1 / round_)
    away = (radius - 1) * half_y
    rim = smoothstep(0.28, -0.28, np.abs(away) - thick)
    arch = centre_y - 3.4 + 0.10 * x**2
    bridge = smoothstep(0.28, -0.28, np.abs(y - arch) - 0.9 * thick) * (ax < 6.5)
    bridge *= smoothstep(-0.5, 0.5, away)
    temple = smoothstep(0.3, -0.3, np.abs(y - centre_y + 5.0) - thick)
    temple = temple * smoothstep(39.5 * identity.face_width, 36.5 * identity.face_width, ax)
    temple = temple * smoothstep(identity.eye_dx + half_x - 1.0, identity.eye_dx + half_x + 0.5, ax)
    frame = np.maximum(np.maximum(rim, bridge), temple)
    tilt = np.tanh(away / thick)
    normal = (np.sign(x) * dx * tilt * 0.5, dy * tilt * 0.5, np.full_like(x, 0.8))
    lit = shade(
        np.broadcast_to(colour.astype(np.float32), (*x.shape, 3)).astype(np.float32),
        (normal[0].astype(np.float32), normal[1].astype(np.float32), normal[2]),
        light,
        gloss=0.25,
        sharpness=30.0,
        scatter=0.0,
    )
    glare = np.clip(1 - np.abs(dx + 0.5 * light.key[0] + 0.35 * dy) / 0.22, 0, 1)
    glare = 0.10 * blur((glare * (radius < 0.97)).astype(np.float32), 0.6 * canvas.density)
    return premultiply(_blend(lit, frame, glare), np.maximum(frame, glare))


def glasses_shadow(identity: Identity, light: Light, canvas: Canvas, glasses: U8) -> Floats:
    """0..1 [rows, columns]: the frame's shadow on the skin behind it."""
    frame = (glasses[..., 3] > 100).astype(np.float32)
    shift = 1.5 * canvas.density
    moved = np.roll(frame, (int(shift), int(-light.key[0] * shift)), axis=(0, 1))
    return np.asarray(0.42 * blur(moved, 0.8 * canvas.density), np.float32)


def _blend(lit: Floats, frame: Floats, glare: Floats) -> Floats:
    """Display colours: the frame's where it covers, white where only glass shines."""
    share = (frame / np.maximum(np.maximum(frame, glare), 1e-3))[..., None]
    return np.asarray(lit * share + (1 - share), np.float32)
