"""Light on a face: one key, one fill, a sky, and how surfaces answer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from training.faces.canvas import Floats, blur
from training.faces.identity import Colour


@dataclass(frozen=True, slots=True)
class Light:
    """Directions point from the face to the light, x right, y down, z to the viewer.

    Attributes:
        rim, rim_colour: a lamp behind the face, seen on its edges and in hair.
        exposure: multiplies everything before the tone curve.
        softness: 0 hard key .. 1 a wide window: how far light wraps around.
        background: linear colours of the backdrop, top and bottom.
    """

    key: Colour
    key_colour: Colour
    fill: Colour
    fill_colour: Colour
    sky: Colour
    ground: Colour
    exposure: float
    softness: float
    background: tuple[Colour, Colour]
    rim: Colour = (0.0, -0.3, -0.95)
    rim_colour: Colour = (0.0, 0.0, 0.0)

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Light:
        """Random indoor light, from a soft window to a hard lamp, at times with one behind."""
        azimuth = rng.uniform(-1.15, 1.15)
        elevation = rng.uniform(0.15, 0.85)
        warmth = rng.normal(0.0, 0.10)
        tint = np.asarray([1 + warmth, 1.0, 1 - warmth])
        ratio = rng.uniform(0.12, 0.5)
        other = np.asarray([1 - warmth, 1.0, 1 + 1.2 * warmth])
        level = rng.uniform(0.16, 0.42)
        backdrop = rng.uniform(0.03, 0.7) * (0.75 + 0.25 * rng.random(3))
        behind = rng.uniform(0.3, 1.6) if rng.random() < 0.4 else 0.0
        side = -np.sign(azimuth) * rng.uniform(0.75, 1.0)
        return cls(
            key=_direction(azimuth, elevation),
            key_colour=_triple(2.0 * (1 - 0.6 * level) * tint),
            fill=_direction(-1.4 * azimuth, rng.uniform(-0.2, 0.4)),
            fill_colour=_triple(1.8 * ratio * other),
            sky=_triple(level * 1.5 * other),
            ground=_triple(level * np.asarray([0.9, 0.72, 0.62])),
            exposure=float(rng.uniform(0.72, 1.02)),
            softness=float(rng.uniform(0.15, 0.8)),
            background=(_triple(backdrop), _triple(backdrop * rng.uniform(0.35, 0.9))),
            rim=_triple(np.asarray([side, -0.35, -0.42]) / np.hypot(np.hypot(side, 0.35), 0.42)),
            rim_colour=_triple(behind * (0.8 + 0.4 * rng.random(3))),
        )

    def metered(self, skin: Colour) -> Light:
        """The same light through a camera that meters the face: dark skin gets more exposure."""
        red, green, blue = skin
        luminance = 0.3 * red + 0.6 * green + 0.1 * blue
        return dataclasses.replace(self, exposure=self.exposure * (0.36 / luminance) ** 0.22)


def shade(
    albedo: Floats,
    normal: tuple[Floats, Floats, Floats],
    light: Light,
    *,
    occlusion: Floats | float = 1.0,
    shadow: Floats | float = 1.0,
    gloss: Floats | float = 0.3,
    sharpness: float = 24.0,
    scatter: float = 0.5,
) -> Floats:
    """Display colour 0..1, float32 [..., 3], of a lit surface.

    Args:
        albedo: [..., 3] linear.
        normal: x, y, z components, each [...].
        occlusion: 0..1 share of the sky that is seen.
        shadow: 0..1 share of the key light that arrives.
        gloss: strength of the highlight.
        sharpness: exponent of the highlight.
        scatter: how much red bleeds across the terminator, as skin does.
    """
    nx, ny, nz = normal
    key = nx * light.key[0] + ny * light.key[1] + nz * light.key[2]
    wrap = 0.12 + 0.33 * light.softness
    direct = np.maximum((key + wrap) / (1 + wrap), 0.0)
    direct *= shadow
    fill = np.maximum((nx * light.fill[0] + ny * light.fill[1] + nz * light.fill[2]) + 0.3, 0) / 1.3
    up = 0.5 - 0.5 * ny
    half = np.asarray(light.key) + np.asarray([0.0, 0.0, 1.0])
    half /= np.linalg.norm(half)
    mirror = np.maximum(nx * half[0] + ny * half[1] + nz * half[2], 0.0)
    highlight = cv2.pow(np.ascontiguousarray(mirror, np.float32), sharpness)
    rim = 1.0 - np.clip(nz, 0, 1)
    highlight = (highlight + 0.25 * rim * rim * rim * up) * gloss * shadow
    bleed = scatter * 0.16 * (direct * (1 - direct)) * 4.0
    behind = behind_light(normal, light)
    out = np.empty(albedo.shape, np.float32)
    for c in range(3):
        received = light.key_colour[c] * direct
        if c == 0:
            received = received + light.key_colour[c] * bleed
        received = received + occlusion * (
            light.fill_colour[c] * fill + light.sky[c] * up + light.ground[c] * (1 - up)
        )
        out[..., c] = albedo[..., c] * received + highlight * light.key_colour[c]
        out[..., c] += (albedo[..., c] + 0.06) * light.rim_colour[c] * behind
    return tone(out * light.exposure)


def behind_light(normal: tuple[Floats, Floats, Floats], light: Light) -> Floats:
    """0..1 share of the lamp behind the face that a surface receives."""
    nx, ny, nz = normal
    facing = nx * light.rim[0] + ny * light.rim[1] + nz * light.rim[2]
    return np.asarray(np.clip((facing + 0.05) / 1.05, 0, 1) * (1 - 0.5 * nz), np.float32)


# How far light travels under skin before it leaves, by colour, in face units.
_SCATTER: Final = (0.85, 0.40, 0.22)


def shade_skin(
    albedo: Floats,
    height: Floats,
    fine: Floats,
    density: float,
    light: Light,
    *,
    occlusion: Floats,
    shadow: Floats,
    oil: Floats,
) -> Floats:
    """Display colour 0..1, float32 [rows, columns, 3], of skin.

    Diffuse light is taken from normals and shadows blurred as far as each colour travels in
    skin, red farthest, which softens creases and reddens the edge of a shadow; highlights come
    from the unblurred surface in two lobes, broad and tight, stronger at grazing angles.

    Args:
        albedo: [rows, columns, 3] linear.
        height: heights in units; `fine` adds pores and lines.
        occlusion, shadow: 0..1 share of the sky seen and of the key light that arrives.
        oil: strength of the highlights.
    """
    out = np.empty(albedo.shape, np.float32)
    wrap = 0.06 + 0.26 * light.softness
    rough = height + fine
    for c, travel in enumerate(_SCATTER):
        normal = normals(blur(rough, travel * density), density)
        nx, ny, nz = normal
        key = nx * light.key[0] + ny * light.key[1] + nz * light.key[2]
        direct = np.maximum((key + wrap + 0.08 * travel) / (1 + wrap + 0.08 * travel), 0.0)
        direct *= blur(shadow, 1.2 * travel * density)
        fill = np.maximum(
            (nx * light.fill[0] + ny * light.fill[1] + nz * light.fill[2]) + 0.3, 0
        ) * (1 / 1.3)
        up = 0.5 - 0.5 * ny
        around = light.fill_colour[c] * fill + light.sky[c] * up + light.ground[c] * (1 - up)
        # Light that bounces inside a hollow leaves it redder than it came.
        seen = occlusion ** (0.72, 1.0, 1.08)[c]
        received = light.key_colour[c] * direct + seen * around
        received += light.rim_colour[c] * behind_light(normal, light)
        out[..., c] = albedo[..., c] * received

    nx, ny, nz = normals(rough, density)
    half = np.asarray(light.key) + np.asarray([0.0, 0.0, 1.0])
    half /= np.linalg.norm(half)
    mirror = np.maximum(nx * half[0] + ny * half[1] + nz * half[2], 0.0)
    broad = cv2.pow(np.ascontiguousarray(mirror, np.float32), 14.0)
    tight = cv2.pow(np.ascontiguousarray(mirror, np.float32), 46.0)
    grazing = (1.0 - np.clip(nz, 0, 1)) ** 4
    highlight = (0.55 * broad + 1.25 * tight) * oil * shadow
    sheen = (0.30 * grazing * (0.5 - 0.5 * ny) * occlusion * oil)[..., None]
    out += highlight[..., None] * np.asarray(light.key_colour, np.float32)
    out += sheen * np.asarray(light.sky, np.float32) * 2.0
    return tone(out * light.exposure)


def tone(linear: Floats) -> Floats:
    """Display values 0..1 of linear light: a soft shoulder, gamma 2, a little contrast."""
    bent = linear * (1.0 + linear * 0.14) / (1.0 + linear * 0.50)
    flat = np.sqrt(np.clip(bent, 0.0, 1.0))
    return np.asarray(flat + 0.22 * flat * (1 - flat) * (2 * flat - 0.9), np.float32)


def normals(z: Floats, density: float) -> tuple[Floats, Floats, Floats]:
    """Unit normals of a height field, from heights in units at `density` pixels a unit."""
    dx = cv2.Sobel(z, cv2.CV_32F, 1, 0, ksize=3, scale=density / 8)
    dy = cv2.Sobel(z, cv2.CV_32F, 0, 1, ksize=3, scale=density / 8)
    length = 1.0 / np.sqrt(dx * dx + dy * dy + 1.0)
    return -dx * length, -dy * length, length


def cast_shadow(z: Floats, density: float, light: Light, reach: float = 22.0) -> Floats:
    """0..1 share of the key light that arrives on a height field, soft-edged."""
    lx, ly, lz = light.key
    slope = lz / max(np.hypot(lx, ly), 1e-3)
    step_x, step_y = lx / max(np.hypot(lx, ly), 1e-3), ly / max(np.hypot(lx, ly), 1e-3)
    height, width = z.shape
    scale = min(1.0, 2.0 / density)
    small = cv2.resize(z, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_AREA)
    blocked = np.zeros_like(small)
    for distance in np.linspace(1.0, reach, 18):
        shift = distance * density * scale
        moved = cv2.warpAffine(
            small,
            np.asarray([[1, 0, -step_x * shift], [0, 1, -step_y * shift]], np.float32),
            (small.shape[1], small.shape[0]),
            borderMode=cv2.BORDER_REPLICATE,
        )
        over = (moved - small - distance * slope) / (0.6 + 0.10 * distance)
        blocked = np.maximum(blocked, np.clip(over, 0, 1))
    blocked = cv2.GaussianBlur(blocked, (0, 0), 1.0 + 2.0 * light.softness)
    full = cv2.resize(blocked, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(1.0 - (0.9 - 0.35 * light.softness) * full, np.float32)


def _direction(azimuth: float, elevation: float) -> Colour:
    return _triple(
        np.asarray(
            [
                np.sin(azimuth) * np.cos(elevation),
                -np.sin(elevation),
                np.cos(azimuth) * np.cos(elevation),
            ]
        )
    )


def _triple(values: np.ndarray[tuple[int], np.dtype]) -> Colour:
    return float(values[0]), float(values[1]), float(values[2])
