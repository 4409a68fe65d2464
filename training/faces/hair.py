"""Hair, strand by strand: beard and moustache."""

from __future__ import annotations

import numpy as np

from engine.media import F32
from training.faces.canvas import Canvas
from training.faces.identity import Identity
from training.faces.light import Light, tone
from training.faces.skin import Layers, beard_zone, moustache_zone, strokes


def grow_beard(layers: Layers, identity: Identity, light: Light, canvas: Canvas) -> None:
    """Draw beard and moustache hairs into the head layer."""
    rng = np.random.default_rng(identity.texture_seed + 3)
    for amount, zone in ((identity.beard, beard_zone), (identity.moustache, moustache_zone)):
        if amount <= 0:
            continue
        full = amount > 0.7
        count = int(5200 if full else 3600)
        x = rng.uniform(-36, 36, count * 2).astype(np.float32)
        y = rng.uniform(identity.nose_base, identity.chin_y + 3.0, count * 2).astype(np.float32)
        grown = zone(identity, x, y)
        keep = rng.random(count * 2) < grown * (1.0 if full else 0.75)
        x, y = x[keep][:count], y[keep][:count]
        order = np.argsort(y)[::-1]
        x, y = x[order], y[order]
        n = len(x)
        out = x / 36.0
        down = np.full(n, 1.0, np.float32)
        sweep = 0.35 * out + rng.normal(0, 0.30, n)
        if zone is moustache_zone:
            sweep = 0.9 * np.sign(x) + rng.normal(0, 0.25, n)
            down = np.full(n, 0.75, np.float32)
        root = _unit(np.stack([sweep, down], axis=1))
        tip = _unit(np.stack([sweep * 0.4 + rng.normal(0, 0.25, n), down], axis=1))
        if full:
            length = rng.uniform(1.4, 3.4, n)
        else:
            length = rng.uniform(0.35, 0.5 + 1.2 * amount, n)
        _draw(layers, identity, light, canvas, rng, x, y, np.stack([root, tip], 1), length)


def _draw(
    layers: Layers,
    identity: Identity,
    light: Light,
    canvas: Canvas,
    rng: np.random.Generator,
    x: F32,
    y: F32,
    directions: F32,
    length: F32,
) -> None:
    n = len(x)
    column = np.clip((x + 37.5 - canvas.x0) * canvas.density, 0, canvas.columns - 1).astype(int)
    row = np.clip((y - canvas.y0) * canvas.density, 0, canvas.rows - 1).astype(int)
    under = layers.head[row, column] ** 2
    lit = under.mean(1, keepdims=True) / (np.mean(identity.skin) * light.exposure)
    shine = np.exp(rng.normal(0.0, 0.38, (n, 1))) * (1 + 1.2 * (rng.random((n, 1)) < 0.06))
    colour = np.asarray(identity.hair) * shine * (0.35 + 0.8 * lit)
    colour = tone((colour * light.exposure).astype(np.float32))
    skin = np.sqrt(np.clip(under, 0, 1))
    blend = rng.uniform(0.72, 0.95, (n, 1))
    colour = colour * blend + skin * (1 - blend)
    strokes(
        layers.head,
        canvas,
        np.stack([x, y], 1).astype(np.float32),
        directions.astype(np.float32),
        length[:, None].astype(np.float32),
        colour.astype(np.float32),
        0.2,
    )


def _unit(vectors: F32) -> F32:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

