"""Hair of a face: beard, moustache, brows and what grows on the head."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

from training.faces.canvas import MIDLINE, Canvas, Floats, smoothstep
from training.faces.hair_styles import Sheet, hair_sheets
from training.faces.identity import Colour, Identity
from training.faces.light import Light, shade_skin
from training.faces.skin import Layers, beard_zone, moustache_zone, over, premultiply
from training.faces.strands import draw_strands, light_strands, visible


def grow_hair(layers: Layers, identity: Identity, light: Light, canvas: Canvas) -> None:
    """Draw all hair of `identity` into its layers."""
    rng = np.random.default_rng(identity.texture_seed + 3)
    _grow_beard(layers, identity, light, canvas, rng)
    _grow_brows(layers, identity, light, canvas, rng)
    if identity.hair_style not in ("long", "bob"):
        _grow_ears(layers, identity, light, canvas)
    sheets = hair_sheets(identity)
    front = [sheet for sheet in sheets if not sheet.behind]
    if front:
        _shadow_on_skin(layers, front, light, canvas)
    for sheet in sheets:
        _grow_sheet(layers, sheet, identity, light, canvas, rng)


def _surface(sheet: Sheet) -> tuple[CubicSpline, Floats]:
    guides = np.asarray(sheet.guides, float)
    along = np.linspace(0, 1, guides.shape[1])
    return CubicSpline(along, guides, axis=1), np.linspace(0, 1, len(guides))


def _at(spline: CubicSpline, places: Floats, q: Floats, t: Floats) -> Floats:
    """Points [n, m, 2] of strands q [n, m] at t [n, m]."""
    curves = spline(t)  # [guides, n, m, 2]
    index = np.clip(np.searchsorted(places, q, side="right") - 1, 0, len(places) - 2)
    share = ((q - places[index]) / (places[1] - places[0]))[..., None]
    low = np.take_along_axis(curves, index[None, ..., None], axis=0)[0]
    high = np.take_along_axis(curves, index[None, ..., None] + 1, axis=0)[0]
    return np.asarray(low * (1 - share) + high * share)


def _mass(sheet: Sheet, canvas: Canvas) -> Floats:
    """Polygon in pixels around a sheet."""
    spline, _ = _surface(sheet)
    end = 0.99 if sheet.length else min(sheet.end[0], 1.0)
    t = np.linspace(max(sheet.start[0], 0.0) + 0.10, end, 40)
    curves = spline(t)
    first, last = curves[0], curves[-1]
    ring = np.concatenate([first, curves[:, -1], last[::-1], curves[::-1, 0]])
    return np.asarray((ring + canvas.origin()) * canvas.density)


def _grow_sheet(
    layers: Layers,
    sheet: Sheet,
    identity: Identity,
    light: Light,
    canvas: Canvas,
    rng: np.random.Generator,
) -> None:
    layer = layers.back if sheet.behind else layers.head
    spline, places = _surface(sheet)
    n, steps = sheet.strands, 18
    q = rng.uniform(-0.01, 1.01, n)
    stray = rng.random(n) < 0.05
    q = np.where(stray, q + rng.normal(0, 0.02, n), q)
    order = np.argsort(np.abs(q - 0.5) * rng.uniform(0.6, 1.4, n))[::-1]
    q = q[order]
    begin, end = rng.uniform(*sheet.start, n), rng.uniform(*sheet.end, n)
    if sheet.length:
        end = np.minimum(begin + sheet.length * rng.uniform(0.6, 1.3, n), 1.06)
    t = begin[:, None] + (end - begin)[:, None] * np.linspace(0, 1, steps)[None]
    inside = np.clip(q, 0, 1)
    lock = np.round(inside * sheet.clumps) / sheet.clumps
    # Neighbouring locks swing together, as hair that was combed does.
    phase = rng.uniform(0, 2 * np.pi) + 4.0 * np.linspace(0, 1, sheet.clumps + 1)
    phase = phase + rng.normal(0, 0.45, sheet.clumps + 1)
    index = np.round(inside * sheet.clumps).astype(int)
    pull = sheet.gather * np.maximum(t, 0.0) ** 1.3
    across = q[:, None] + (lock - q)[:, None] * pull + rng.normal(0, 0.006, (n, 1)) * t
    paths = _at(spline, places, np.where(stray[:, None], across, np.clip(across, -0.015, 1.015)), t)
    swing = 1.2 * np.sin(phase[index][:, None] + 11.0 * t) + 0.4 * rng.normal(0, 1, (n, 1))
    paths[..., 0] += sheet.wave * swing * t
    if sheet.curl:
        turn = rng.uniform(0, 2 * np.pi, (n, 1)) + rng.choice([-1.0, 1.0], (n, 1)) * np.linspace(
            0, 8.0, steps
        )
        paths[..., 0] += sheet.curl * np.cos(turn)
        paths[..., 1] += sheet.curl * np.sin(turn)
    tone_of_lock = np.exp(rng.normal(0, 0.20, sheet.clumps + 1))[index][:, None]
    tone_of_lock = tone_of_lock * (1 - 1.1 * np.square(inside * sheet.clumps - index))[:, None]
    edge = np.clip(np.minimum(inside, 1 - inside) * 14.0, 0.78, 1.0)[:, None]
    mid = (t[:, 1:] + t[:, :-1]) / 2
    depth = sheet.shade * tone_of_lock * edge * (0.58 + 0.42 * np.clip(mid * 5, 0, 1))
    if sheet.fill:
        base = light_strands(paths[:200], identity.hair, light, rng, shade=0.30 * sheet.shade)
        colour = base.mean((0, 1)) * 255.0
        polygon = np.round(_mass(sheet, canvas) * 16).astype(np.int32)
        fill = (float(colour[0]), float(colour[1]), float(colour[2]), 255.0)
        cv2.fillPoly(layer, [polygon.reshape(-1, 1, 2)], fill, cv2.LINE_AA, 4)
    kept = visible(canvas, paths).any(axis=1)
    paths, depth = paths[kept], depth[kept]
    colours = light_strands(paths, identity.hair, light, rng, shade=depth)
    draw_strands(layer, canvas, paths, colours, 0.16)


def _grow_ears(layers: Layers, identity: Identity, light: Light, canvas: Canvas) -> None:
    x, y = canvas.grid()
    ax = np.abs(x)
    tilt = 0.14
    dx = (ax - 39.0 * identity.face_width) + tilt * (y - 38.0)
    dy = y - 38.0
    u, v = dx / 4.9, dy / (12.8 - 1.2 * np.clip(dy / 12, 0, 1))
    r = np.hypot(u, v)
    z = 3.2 * np.sqrt(np.clip(1 - r**2, 0, 1)) + 1.5 * np.exp(-(((r - 0.84) / 0.11) ** 2))
    z += 0.9 * np.exp(-(((np.hypot(u + 0.1, (v - 0.02) * 1.1) - 0.50) / 0.12) ** 2)) * (v < 0.5)
    z -= 2.2 * np.exp(-(((u + 0.35) / 0.30) ** 2 + ((v - 0.08) / 0.30) ** 2))
    skin = np.asarray(identity.skin, np.float32) * np.asarray([0.98, 0.90, 0.90], np.float32)
    hollow = np.clip(1.1 - 0.55 * np.exp(-(((u + 0.3) / 0.4) ** 2 + ((v - 0.05) / 0.4) ** 2)), 0, 1)
    colour = shade_skin(
        np.broadcast_to(skin, (*x.shape, 3)).astype(np.float32),
        z.astype(np.float32),
        np.zeros_like(x),
        canvas.density,
        light,
        occlusion=(hollow * 0.75).astype(np.float32),
        shadow=(hollow * 0.7).astype(np.float32),
        oil=np.full_like(x, 0.04),
    )
    cover = smoothstep(1.03, 0.97, r.astype(np.float32))
    layers.head[...] = over(premultiply(colour, cover), layers.head)


def _shadow_on_skin(layers: Layers, sheets: list[Sheet], light: Light, canvas: Canvas) -> None:
    height, width = layers.head.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    for sheet in sheets:
        polygon = np.round(_mass(sheet, canvas)).astype(np.int32)
        cv2.fillPoly(mask, [polygon.reshape(-1, 1, 2)], 255)
    shift = 1.6 * canvas.density
    moved = np.asarray([[1, 0, -light.key[0] * shift], [0, 1, shift]], np.float32)
    shade_mask = cv2.warpAffine(mask, moved, (width, height))
    small = cv2.resize(shade_mask, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), max(0.45 * canvas.density, 0.5))
    soft = cv2.resize(small, (width, height)).astype(np.float32) / 255.0
    tint = np.asarray([0.46, 0.56, 0.60], np.float32)
    for layer in (layers.head, layers.body):
        layer[..., :3] = (layer[..., :3] * (1 - soft[..., None] * tint)).astype(np.uint8)


def _grow_brows(
    layers: Layers, identity: Identity, light: Light, canvas: Canvas, rng: np.random.Generator
) -> None:
    n = int(560 * (0.6 + 0.5 * identity.brow_thickness))
    hair, skin = np.asarray(identity.hair), np.asarray(identity.skin)
    red, green, blue = np.minimum(0.9 * hair, 0.17) + 0.09 * skin
    bare = layers.head.copy()
    colour: Colour = (float(red), float(green), float(blue))
    for sign in (-1.0, 1.0):
        # Sparser towards both ends.
        u = np.clip(rng.triangular(-1.1, 0.0, 1.0, n) * 0.72 + rng.uniform(-0.36, 0.34, n), -1.1, 1)
        taper = (1.05 - 0.60 * np.clip(u, 0, 1) ** 1.5) * (1 - 0.25 * np.clip(-u - 0.6, 0, 1))
        v = np.clip(rng.normal(0, 0.48, n), -1.1, 1.1)
        arch = identity.brow_arch * (1.5 - 2.3 * (u - 0.30) ** 2) - 0.4
        x = identity.brow_dx - 0.8 + 10.4 * u
        y = identity.brow_y + 0.5 * sign * identity.skew - arch
        y = y + 1.25 * identity.brow_thickness * taper * v
        y = y - identity.brow_raise * (1.6 - 0.5 * u * (identity.brow_raise < 0))
        # Hairs stand up at the inner end and lie along the arch towards the outer one.
        slope = 4.6 * identity.brow_arch * (u - 0.30) / 10.4
        rise = 0.95 * np.clip(-u - 0.35, 0, 1) + 0.30 * v + rng.normal(0, 0.10, n)
        angle = -np.arctan(slope) + rise + 0.12
        length = rng.uniform(1.3, 2.3, n) * (1 - 0.25 * np.clip(u, 0, 1))
        t = np.linspace(0, 1, 4)[None]
        bend = angle[:, None] - 0.35 * t * (1 + v[:, None])
        paths = np.stack(
            [
                sign * (x[:, None] + length[:, None] * t * np.cos(bend)),
                y[:, None] - length[:, None] * t * np.sin(bend),
            ],
            axis=2,
        )
        tones = light_strands(paths, colour, light, rng, variety=0.3, gloss=0.15)
        draw_strands(layers.head, canvas, paths, tones, 0.10)
    # Hairs are finer than a pixel: skin shines through.
    cv2.addWeighted(layers.head, 0.86, bare, 0.14, 0.0, dst=layers.head)


def _grow_beard(
    layers: Layers, identity: Identity, light: Light, canvas: Canvas, rng: np.random.Generator
) -> None:
    for amount, zone in ((identity.beard, beard_zone), (identity.moustache, moustache_zone)):
        if amount <= 0:
            continue
        full = amount > 0.7
        fine = max(canvas.density / 3.9, 0.6)  # more and thinner hairs where they can be seen
        count = int((10400 if full else 7200) * fine**1.5)
        x = rng.uniform(-36, 36, count).astype(np.float32)
        y = rng.uniform(identity.nose_base, identity.chin_y + 3.0, count).astype(np.float32)
        column = np.clip((x + MIDLINE - canvas.x0) * canvas.density, 0, canvas.columns - 1)
        row = np.clip((y - canvas.y0) * canvas.density, 0, canvas.rows - 1)
        on_head = layers.head[row.astype(int), column.astype(int), 3] / 255.0
        keep = rng.random(count) < zone(identity, x, y) * on_head * (1.0 if full else 0.75)
        x, y = x[keep][: count // 2], y[keep][: count // 2]
        order = np.argsort(y)[::-1]
        x, y = x[order], y[order]
        n = len(x)
        if zone is moustache_zone:
            sweep, down = 0.9 * np.sign(x) + rng.normal(0, 0.25, n), 0.75
        else:
            sweep, down = 0.35 * x / 36.0 + rng.normal(0, 0.30, n), 1.0
        length = rng.uniform(1.4, 3.4, n) if full else rng.uniform(0.35, 0.5 + 1.2 * amount, n)
        bend = rng.normal(0, 0.25, n)
        t = np.linspace(0, 1, 4)[None]
        sideways = (sweep[:, None] * (1 - 0.6 * t) + bend[:, None] * t) * t
        norm = np.hypot(sweep, down)[:, None]
        paths = np.stack(
            [
                x[:, None] + length[:, None] * sideways / norm,
                y[:, None] + length[:, None] * down * t / norm,
            ],
            axis=2,
        )
        column = np.clip((x + MIDLINE - canvas.x0) * canvas.density, 0, canvas.columns - 1)
        row = np.clip((y - canvas.y0) * canvas.density, 0, canvas.rows - 1)
        under = (layers.head[row.astype(int), column.astype(int), :3] / 255.0) ** 2
        lit = under.mean(1, keepdims=True) / (np.mean(identity.skin) * light.exposure)
        shine = np.exp(rng.normal(0, 0.38, (n, 1))) * (1 + 1.2 * (rng.random((n, 1)) < 0.06))
        colour = np.sqrt(np.clip(np.asarray(identity.hair) * shine * (0.35 + 0.8 * lit), 0, 1))
        blend = rng.uniform(0.5, 0.88, (n, 1)) if full else rng.uniform(0.3, 0.7, (n, 1))
        colour = colour * blend + np.sqrt(under) * (1 - blend)
        draw_strands(layers.head, canvas, paths, colour[:, None].repeat(3, 1), 0.17)
