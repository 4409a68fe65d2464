"""The skin of a face at rest, lit: albedo, marks, beard, neck, clothing, backdrop."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from engine.media import U8
from training.faces.backdrop import paint_backdrop
from training.faces.canvas import Canvas, Floats, blur, bump, noise, smoothstep
from training.faces.identity import Identity
from training.faces.light import Light, cast_shadow, normals, shade, shade_skin
from training.faces.relief import Relief, build_relief


@dataclass(frozen=True, slots=True)
class Layers:
    """Static layers of one face under one light, back to front.

    Attributes:
        backdrop: uint8 [rows, columns, 3], display colours.
        back: uint8 [rows, columns, 4], colours multiplied by cover: hair behind the neck.
        body: the same of neck and clothing.
        head: the same of the head, lips and eyes left out.
        relief: heights, for parallax.
    """

    backdrop: U8
    back: U8
    body: U8
    head: U8
    relief: Relief

    def below(self, row: int) -> Layers:
        """Views of the same layers from `row` down; the relief is left whole."""
        parts = (self.backdrop[row:], self.back[row:], self.body[row:], self.head[row:])
        return Layers(*parts, self.relief)


def paint_layers(identity: Identity, light: Light, canvas: Canvas) -> Layers:
    """The layers of `identity` under `light`."""
    relief = build_relief(identity, canvas)
    rng = np.random.default_rng(identity.texture_seed + 1)
    albedo = skin_albedo(identity, canvas, rng)
    density = canvas.density
    z = relief.z
    x, y = canvas.grid()
    ax = np.abs(x)
    pores = -0.030 * np.abs(noise(canvas, 0.5, rng)) + 0.020 * noise(canvas, 1.1, rng)
    pored = 0.5 + 0.7 * bump(ax, y, 9.0, 47.0, 12.0, 9.0) + 0.4 * bump(x, y, 0.0, 0.0, 20.0, 9.0)
    lines = _wrinkles(identity, canvas, rng)
    fine = pores * pored * (0.8 + 1.2 * identity.age) + lines
    occlusion = _occlusion(z, density)
    shadow = cast_shadow(z, density, light)
    oil = 0.060 * (1 + 0.22 * noise(canvas, 5.0, rng) + 0.22 * noise(canvas, 0.45, rng))
    oil = oil * (
        0.65
        + 0.9 * bump(x, y, 0, 44, 5, 12)
        + 0.55 * bump(ax, y, 22, 38, 8, 6)
        + 0.45 * bump(x, y, 0, -2, 16, 9)
        + 0.3 * bump(x, y, 0, identity.chin_y - 6, 7, 5)
    )
    head = shade_skin(
        albedo,
        z,
        fine,
        density,
        light,
        occlusion=occlusion,
        shadow=shadow,
        oil=np.clip(oil, 0, None).astype(np.float32),
    )
    # A line is narrower than light travels in skin; its floor is dark all the same.
    head *= 1 - np.clip(-lines * 1.1, 0, 0.3)[..., None] * np.asarray([0.7, 1, 1], np.float32)
    base, wing = identity.nose_base, identity.nose_half
    aside = np.abs(x - 0.7 * identity.skew) - 0.50 * wing
    tilted = y - base + 0.7 + 0.28 * aside
    nostril = np.clip(1 - (aside / 2.0) ** 2 - (tilted / 0.92) ** 2, 0, 1)
    nostril = blur(np.sqrt(nostril).astype(np.float32), 0.32 * density)
    head *= 1 - nostril[..., None] * np.asarray([0.66, 0.80, 0.82], np.float32)
    cover = smoothstep(1.0 + 0.008, 1.0 - 0.014, relief.inside)
    backdrop = np.clip(paint_backdrop(light, canvas, rng) * 255.0 + 0.5, 0, 255).astype(np.uint8)
    body, body_cover = _body(identity, light, canvas, relief, rng)
    return Layers(
        backdrop,
        np.zeros((*z.shape, 4), np.uint8),
        premultiply(body, body_cover),
        premultiply(head, cover),
        relief,
    )


def premultiply(colour: Floats, cover: Floats) -> U8:
    """uint8 [..., 4]: display colours times cover, and cover."""
    both = np.concatenate([colour * cover[..., None], cover[..., None]], axis=2)
    return np.clip(both * 255.0 + 0.5, 0, 255).astype(np.uint8)


def darken(layer: U8, shadow: Floats) -> None:
    """Lay a soft shadow, 0..1 [rows, columns], on a layer's colours, warm as on skin."""
    tint = np.asarray([0.82, 0.96, 1.0], np.float32)
    layer[..., :3] = (layer[..., :3] * (1 - shadow[..., None] * tint)).astype(np.uint8)


def over(below: U8, above: U8) -> U8:
    """The premultiplied layer `above` laid over `below`, both uint8 [..., 4]."""
    through = cv2.merge([255 - above[..., 3]] * 4)
    dimmed = cv2.multiply(below, through, scale=1.0 / 255.0)
    return np.asarray(cv2.add(dimmed, above), np.uint8)


def flatten(layers: Layers) -> U8:
    """uint8 [rows, columns, 3]: the layers on top of each other."""
    picture = layers.backdrop
    for layer in (layers.back, layers.body, layers.head):
        picture = lay_over(picture, layer)
    return picture


def lay_over(below: U8, layer: U8) -> U8:
    """`below` [..., 3] under a premultiplied `layer` [..., 4]."""
    through = cv2.cvtColor(255 - layer[..., 3], cv2.COLOR_GRAY2RGB)
    dimmed = cv2.multiply(below, through, scale=1.0 / 255.0)
    return np.asarray(cv2.add(dimmed, np.ascontiguousarray(layer[..., :3])))


def skin_albedo(identity: Identity, canvas: Canvas, rng: np.random.Generator) -> Floats:
    """Linear colour of bare skin with its red and dark zones, freckles and beard shadow."""
    x, y = canvas.grid()
    ax = np.abs(x)
    skin = np.asarray(identity.skin, np.float32)
    melanin = 0.05 * noise(canvas, 12.0, rng, 3) + 0.030 * noise(canvas, 1.6, rng, 2)
    under_eye = bump(ax, y, 15.0, identity.eye_y + 6.5, 7.0, 3.2)
    melanin = melanin + (0.10 + 0.25 * identity.age) * under_eye
    melanin += 0.10 * bump(ax, y, identity.mouth_half + 2.5, identity.mouth_y + 2, 4.0, 5.0)
    red = bump(ax, y, 22.5, 46.0, 9.0, 7.5) + 0.9 * bump(x, y, 0, identity.nose_base - 5, 7.0, 5.5)
    red += 0.5 * bump(x, y, 0, identity.chin_y - 6.0, 8.0, 5.0)
    red += 0.25 * bump(ax, y, 5.0, identity.nose_base + 4.0, 4.0, 4.0)
    red *= identity.redness * (1 + 0.25 * noise(canvas, 4.0, rng, 2))
    red += 0.10 * noise(canvas, 7.0, rng, 2)
    albedo = np.empty((*x.shape, 3), np.float32)
    for c, (dark, blush) in enumerate(((0.55, 0.02), (0.95, 0.20), (1.2, 0.17))):
        albedo[..., c] = skin[c] * np.exp(-dark * melanin - blush * red)
    if identity.freckles > 0.05:
        spots = smoothstep(1.55, 2.1, noise(canvas, 1.1, rng) + 0.2 * noise(canvas, 6.0, rng))
        zone = bump(ax, y, 14.0, 42.0, 14.0, 10.0)
        spots *= zone * min(identity.freckles, 1.0) * 0.5
        albedo *= np.exp(-spots[..., None] * np.asarray([0.8, 1.3, 1.6], np.float32))
    for _ in range(int(rng.integers(0, 4))):
        mx, my, size = rng.uniform(-26, 26), rng.uniform(36, 84), rng.uniform(0.35, 0.7)
        mole = bump(x, y, mx, my, size, size)[..., None]
        albedo *= 1 - mole * np.asarray([0.45, 0.6, 0.62], np.float32)
    if identity.masculine > 0.5:
        stubble = beard_zone(identity, x, y) * (0.14 if identity.beard == 0 else 0.45)
        stubble = stubble * (1 + 0.25 * noise(canvas, 0.5, rng))
        shade_of_hair = np.asarray(identity.hair, np.float32) * 0.5 + 0.35 * skin
        grey = 0.4 + 0.6 * shade_of_hair / max(shade_of_hair.max(), 1e-3) * 0.6
        albedo *= 1 - stubble[..., None] * (1 - 0.5 * grey)
    return albedo


def beard_zone(identity: Identity, x: Floats, y: Floats) -> Floats:
    """0..1 where a full beard grows on jaw and chin, without the moustache."""
    ax = np.abs(x)
    mouth = identity.mouth_y
    upper = mouth - 2.0 - 16.0 * smoothstep(19.0, 35.0, ax)
    zone = smoothstep(-2.5, 3.0, y - upper)
    inner = ((ax) / (identity.mouth_half + 3.5)) ** 2 + ((y - mouth - 1.0) / 9.0) ** 2
    zone *= smoothstep(0.8, 1.35, inner)
    tuft = bump(x, y, 0.0, mouth + identity.lower_lip + 4.0, 2.4, 2.4)
    return np.maximum(zone, 0.8 * tuft)


def moustache_zone(identity: Identity, x: Floats, y: Floats) -> Floats:
    """0..1 where the moustache grows, down to beside the corners of the mouth."""
    ax = np.abs(x)
    mouth, base = identity.mouth_y, identity.nose_base
    centre = base + 4.6 + 0.011 * ax**2 + 3.5 * smoothstep(12.0, 18.0, ax)
    half = 2.9 * smoothstep(identity.mouth_half + 5.0, identity.mouth_half - 3.0, ax)
    zone = smoothstep(half + 1.0, half - 1.4, np.abs(y - centre))
    side = bump(ax, y, identity.mouth_half + 3.2, mouth + 4.0, 1.8, 5.0)
    return np.asarray(np.maximum(zone * smoothstep(0.0, 1.2, ax), 0.8 * side))


def _wrinkles(identity: Identity, canvas: Canvas, rng: np.random.Generator) -> Floats:
    """Small heights of lines at eyes, forehead and mouth, deeper with age."""
    x, y = canvas.grid()
    ax = np.abs(x)
    total = np.zeros_like(x)
    wave = noise(canvas, 7.0, rng)
    for _ in range(int(2 + 7 * identity.age)):
        line_y = rng.uniform(33.0, 40.0)
        slope = rng.uniform(-0.15, 0.5)
        path = y - line_y - slope * (ax - 24.0) - 0.35 * wave
        total -= np.exp(-((path / 0.35) ** 2)) * bump(ax, y, 29.0, line_y, 4.5, 5.0)
    for line_y in (-4.0, 2.0, 8.0):
        path = y - line_y - 0.6 * wave + 0.002 * ax**2
        depth = 0.8 * smoothstep(-1.2, 1.0, noise(canvas, 9.0, rng))
        total -= depth * np.exp(-((path / 0.7) ** 2)) * bump(ax, y, 0.0, line_y, 15.0, 3.0)
    for _ in range(int(5 * identity.age)):
        line_x = rng.uniform(-9.0, 9.0)
        path = x - line_x - 0.2 * wave
        zone = bump(x, y, line_x, identity.mouth_y - 6.0, 2.0, 2.4)
        total -= 0.45 * np.exp(-((path / 0.4) ** 2)) * zone
    return np.asarray(0.16 * identity.age**1.3 * total, np.float32)


def _occlusion(z: Floats, density: float) -> Floats:
    """0..1 share of the sky seen, from how deep a place lies below its surroundings."""
    total = np.zeros_like(z)
    for radius, weight in ((1.2, 0.30), (3.0, 0.16), (7.0, 0.06)):
        total += weight * np.maximum(blur(z, radius * density) - z, 0.0)
    return np.asarray(np.exp(-total * 1.25), np.float32)


def _body(
    identity: Identity, light: Light, canvas: Canvas, relief: Relief, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Display colour and cover of neck and clothing."""
    x, y = canvas.grid()
    ax = np.abs(x)
    density = canvas.density
    chin = identity.chin_y
    neck_half = 22.5 * (0.9 + 0.25 * identity.masculine)
    skin = np.broadcast_to(np.asarray(identity.skin, np.float32) * 0.92, (*x.shape, 3))
    skin = skin * (1 + 0.03 * noise(canvas, 8.0, rng, 3))[..., None]
    under = y - (chin - 0.021 * ax**2)
    turned = under - 7.0 * light.key[0] * x / 20.0
    shadow = 0.06 + 0.90 * smoothstep(2.0, 15.0 + 14.0 * light.softness, turned)
    occlusion = 0.22 + 0.70 * smoothstep(-3.0, 24.0, under)
    throat = shade_skin(
        skin.astype(np.float32),
        relief.neck_z,
        (-0.02 * np.abs(noise(canvas, 0.6, rng))).astype(np.float32),
        density,
        light,
        occlusion=occlusion.astype(np.float32),
        shadow=shadow.astype(np.float32),
        oil=np.full_like(x, 0.025),
    )
    neck_edge = neck_half + 5.0 * smoothstep(84.0, 106.0, y) ** 2
    neck_cover = smoothstep(0.5, -0.5, ax - neck_edge) * smoothstep(30.0, 34.0, y)

    aside = np.maximum(ax - 22.0, 0)
    slope = 101.8 + 0.15 * aside + 0.0036 * aside**2
    collar = 102.0 + 10.0 * np.sqrt(np.clip(1 - (ax / 24.0) ** 2, 0, 1))
    edge = np.where(ax < 24.0, collar, slope)
    below = y - edge
    folds = noise(canvas, 16.0, rng) + 0.25 * noise(canvas, 5.0, rng)
    cloth_z = 14.0 * np.sqrt(np.clip(1 - (ax / 105.0) ** 2, 0, 1)) + 0.55 * folds
    cloth_z += 2.6 * smoothstep(0.0, 3.0, below)
    at_neck = smoothstep(28.0, 23.0, ax)
    cloth_z -= 0.45 * np.exp(-(((below - 3.0) / 0.4) ** 2)) * at_neck
    rib = np.sin(2 * np.pi * np.hypot(x, y - 90.0) / 0.9) * (below < 3.0) * at_neck
    cloth = np.broadcast_to(np.asarray(identity.clothing, np.float32), (*x.shape, 3))
    weave = 1 + 0.03 * noise(canvas, 0.4, rng) + 0.05 * rib
    cloth_colour = shade(
        (cloth * weave[..., None]).astype(np.float32),
        normals(cloth_z.astype(np.float32), density),
        light,
        gloss=0.015,
        sharpness=6.0,
        scatter=0.0,
        occlusion=0.55 + 0.45 * smoothstep(0.0, 10.0, below),
        shadow=0.35 + 0.65 * smoothstep(-2.0, 16.0, below - 4.0 * light.key[0] * x / 20.0),
    )
    # The cloth's own edge throws a thin shadow on the throat.
    throat *= (1 - 0.45 * np.exp(-np.square(np.minimum(below, 0) / 1.6)))[..., None]
    cloth_cover = smoothstep(-0.3, 0.3, below)
    share = cloth_cover[..., None]
    return throat * (1 - share) + cloth_colour * share, np.maximum(neck_cover, cloth_cover)
