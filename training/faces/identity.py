"""Who a synthetic face is: its proportions, colours, hair and marks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

Colour = tuple[float, float, float]

# Linear albedo of skin, light to dark.
SKIN_TONES: Final[tuple[Colour, ...]] = (
    (0.78, 0.545, 0.430),
    (0.70, 0.465, 0.340),
    (0.61, 0.385, 0.265),
    (0.47, 0.275, 0.175),
    (0.325, 0.165, 0.094),
    (0.185, 0.090, 0.051),
)
HAIR_COLOURS: Final[tuple[Colour, ...]] = (
    (0.012, 0.010, 0.010),
    (0.030, 0.018, 0.012),
    (0.075, 0.040, 0.022),
    (0.160, 0.090, 0.045),
    (0.380, 0.240, 0.110),
    (0.200, 0.060, 0.020),
    (0.350, 0.340, 0.330),
    (0.600, 0.590, 0.570),
)
CLOTH_COLOURS: Final[tuple[Colour, ...]] = (
    (0.020, 0.028, 0.055),
    (0.025, 0.026, 0.029),
    (0.130, 0.135, 0.145),
    (0.620, 0.610, 0.590),
    (0.420, 0.340, 0.255),
    (0.190, 0.035, 0.045),
    (0.035, 0.085, 0.060),
    (0.060, 0.130, 0.235),
    (0.310, 0.400, 0.500),
)
IRIS_COLOURS: Final[tuple[Colour, ...]] = (
    (0.060, 0.028, 0.014),
    (0.120, 0.060, 0.025),
    (0.130, 0.120, 0.045),
    (0.090, 0.190, 0.300),
    (0.170, 0.210, 0.220),
)


@dataclass(frozen=True, slots=True)
class Identity:
    """One face; lengths in face units, colours in linear light.

    Attributes:
        masculine: 0..1, brow ridge, jaw and beard shadow.
        age: 0 (twenty) .. 1 (seventy): folds, under-eyes, thinner lips.
        cheek: fullness of the cheeks, 0..1.
        mouth_y: the line between the lips at rest.
        mouth_half: half of the mouth's width at rest.
        lipstick: 0 none .. 1 opaque.
        beard: 0 none, 0.3 stubble, 1 full; `moustache` likewise.
        hair_style: "short", "buzz", "curly", "long", "bob", "bun" or "bald".
        texture_seed: seed of everything random in skin and hair.
        skew: -1..1, how far the left and right of the face differ.
        smile, squint, brow_raise: the expression that the face wears, see `Expression`.
    """

    masculine: float
    age: float
    skin: Colour
    redness: float
    freckles: float
    face_width: float
    jaw_width: float
    chin_y: float
    chin_width: float
    cheek: float
    mouth_y: float
    mouth_half: float
    upper_lip: float
    lower_lip: float
    bow: float
    corner_lift: float
    lip: Colour
    lipstick: float
    lip_gloss: float
    nose_base: float
    nose_half: float
    nose_height: float
    eye_y: float
    eye_dx: float
    eye_size: float
    eye_tilt: float
    monolid: float
    brow_y: float
    brow_dx: float
    brow_thickness: float
    brow_arch: float
    iris: Colour
    hair: Colour
    hair_style: str
    beard: float
    moustache: float
    glasses: float
    teeth_tint: Colour
    tooth_width: float
    clothing: Colour
    texture_seed: int
    skew: float = 0.0
    smile: float = 0.0
    squint: float = 0.0
    brow_raise: float = 0.0

    @property
    def points(self) -> tuple[tuple[float, float], ...]:
        """Left brow, right brow, nose in the face plane; x relative to the midline."""
        nose_y = self.brow_y + 0.7 * (self.nose_base - self.brow_y)
        return ((-self.brow_dx, self.brow_y), (self.brow_dx, self.brow_y), (0.0, nose_y))

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Identity:
        """A random face."""
        masculine = float(np.clip(rng.choice([0.15, 0.85]) + rng.normal(0, 0.12), 0, 1))
        age = float(rng.beta(1.2, 2.0))
        tone = float(rng.uniform(0, len(SKIN_TONES) - 1))
        tint = np.asarray([1.0, rng.normal(1, 0.04), rng.normal(1, 0.08)])
        skin = _between(SKIN_TONES, tone) * tint
        darkness = tone / (len(SKIN_TONES) - 1)
        mouth_y = float(rng.normal(66.8, 1.3))
        lip_size = float(np.clip(rng.normal(1.0 + 0.25 * darkness - 0.2 * age, 0.16), 0.6, 1.5))
        painted = masculine < 0.5 and rng.random() < 0.5
        lipstick = float(rng.uniform(0.3, 0.95)) if painted else 0.0
        natural = skin * np.asarray([0.84, 0.58, 0.61]) * rng.uniform(0.82, 1.08)
        paint = np.asarray([rng.uniform(0.25, 0.62), rng.uniform(0.03, 0.16), 0.0])
        paint[2] = paint[1] * rng.uniform(0.8, 1.5)
        greying = age > 0.55 and rng.random() < 0.6
        limit = 4 if darkness < 0.45 else 1.5
        shade = 6 + rng.uniform(0, 1) if greying else rng.uniform(0, limit)
        if not greying and darkness < 0.3 and rng.random() < 0.12:
            shade = 5.0
        bearded = masculine > 0.5 and rng.random() < 0.55
        styles = (
            ("short", "short", "short", "buzz", "curly", "bald")
            if masculine > 0.5
            else ("long", "long", "bob", "bun", "short", "curly")
        )
        return cls(
            masculine=masculine,
            age=age,
            skin=_colour(skin),
            redness=float(rng.uniform(0.2, 1.0)),
            freckles=float(max(0, rng.normal(-0.4, 0.6))) * (1 - darkness),
            face_width=float(rng.normal(0.985 + 0.03 * masculine, 0.04)),
            jaw_width=float(rng.normal(0.95 + 0.09 * masculine, 0.05)),
            chin_y=mouth_y + float(rng.normal(20.6 + 1.6 * masculine, 1.0)),
            chin_width=float(rng.normal(0.92 + 0.2 * masculine, 0.1)),
            cheek=float(rng.uniform(0.1, 1.0)),
            mouth_y=mouth_y,
            mouth_half=float(np.clip(rng.normal(13.6 + 0.7 * masculine, 1.0), 11.3, 16.5)),
            upper_lip=float(4.3 * lip_size * rng.normal(1, 0.1)),
            lower_lip=float(5.6 * lip_size * rng.normal(1, 0.1)),
            bow=float(rng.uniform(0.2, 1.0)),
            corner_lift=float(rng.normal(0.55, 0.5)),
            lip=_colour(natural * (1 - lipstick) + paint * lipstick * (1 - 0.35 * darkness)),
            lipstick=lipstick,
            lip_gloss=float(rng.uniform(0.15, 0.6) + 0.4 * lipstick),
            nose_base=mouth_y - float(rng.normal(12.4, 0.9)),
            nose_half=float(np.clip(rng.normal(9.3 + 1.4 * darkness, 0.8), 7.6, 12.5)),
            nose_height=float(np.clip(rng.normal(1.0 - 0.12 * darkness, 0.14), 0.65, 1.35)),
            eye_y=float(rng.normal(30.4, 0.7)),
            eye_dx=float(rng.normal(18.2, 0.6)),
            eye_size=float(rng.normal(1.0 - 0.05 * masculine, 0.06)),
            eye_tilt=float(rng.normal(0.04, 0.05)),
            monolid=float(rng.random() < 0.2),
            brow_y=float(rng.normal(18.6 + 0.9 * masculine, 0.6)),
            brow_dx=float(rng.normal(18.6, 0.5)),
            brow_thickness=float(np.clip(rng.normal(0.85 + 0.45 * masculine, 0.2), 0.4, 1.8)),
            brow_arch=float(np.clip(rng.normal(1.0 - 0.5 * masculine, 0.25), 0.1, 1.6)),
            iris=_colour(_between(IRIS_COLOURS, rng.uniform(0, 1.2 if darkness > 0.45 else 4))),
            hair=_colour(_between(HAIR_COLOURS, shade) * rng.uniform(0.8, 1.2)),
            hair_style=str(rng.choice(styles)),
            beard=float(rng.choice([0.25, 0.45, 1.0])) if bearded else 0.0,
            moustache=float(rng.choice([0.0, 0.35, 1.0])) if bearded else 0.0,
            glasses=float(rng.random() < 0.2),
            teeth_tint=_colour(np.asarray([1.0, rng.uniform(0.90, 0.95), rng.uniform(0.72, 0.84)])),
            tooth_width=float(rng.normal(1.0, 0.06)),
            clothing=_colour(
                _between(CLOTH_COLOURS, rng.uniform(0, len(CLOTH_COLOURS) - 1))
                * rng.normal(1, 0.06, 3)
            ),
            texture_seed=int(rng.integers(1 << 31)),
            skew=float(np.clip(rng.normal(0, 0.45), -1, 1)),
        )


def _between(table: tuple[Colour, ...], position: float) -> np.ndarray[tuple[int], np.dtype]:
    low = min(int(position), len(table) - 2)
    share = position - low
    return np.asarray(table[low]) * (1 - share) + np.asarray(table[low + 1]) * share


def _colour(values: np.ndarray[tuple[int], np.dtype]) -> Colour:
    red, green, blue = np.clip(values, 0.002, 0.95)
    return float(red), float(green), float(blue)
