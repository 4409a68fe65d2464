"""Hair styles as sheets of strands between guide curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.faces.identity import Identity

Curve = tuple[tuple[float, float], ...]
Sides = tuple[Curve, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Strands between guide curves; a strand runs along them.

    Attributes:
        guides: curves of equal point counts, from one edge of the sheet to the other.
        behind: drawn behind the neck.
        strands: how many.
        clumps: locks across the sheet.
        wave: sideways swing in units.
        start, end: ranges of where along the guides a strand begins and ends.
        shade: share of light that arrives.
    """

    guides: Sides
    behind: bool = False
    strands: int = 2200
    clumps: int = 26
    wave: float = 0.5
    start: tuple[float, float] = (0.0, 0.12)
    end: tuple[float, float] = (0.8, 1.0)
    shade: float = 1.0
    fill: bool = True


def hair_sheets(identity: Identity) -> list[Sheet]:
    """The sheets of the identity's style, back to front."""
    side = 1.0 if identity.texture_seed % 2 else -1.0
    part = 7.0 * side
    wave = 0.3 + 2.2 * (identity.texture_seed % 97) / 97.0
    if identity.hair_style == "long":
        sheets = [Sheet(_BACK, behind=True, strands=2600, shade=0.45, wave=wave, end=(0.97, 1.0))]
        return sheets + [
            Sheet(_swing(_LONG, sign, part), strands=3000, wave=wave) for sign in (-1.0, 1.0)
        ]
    if identity.hair_style == "bob":
        back = tuple(tuple((x * 0.92, min(y, 0.62 * y + 7.6)) for x, y in g) for g in _BACK)
        sheets = [Sheet(back, behind=True, strands=1800, shade=0.4, wave=0.3, end=(0.93, 1.0))]
        sheets += [
            Sheet(_swing(_BOB, sign, 0.0), strands=2800, wave=0.25, clumps=40)
            for sign in (-1.0, 1.0)
        ]
        return [*sheets, Sheet(_FRINGE, strands=2400, wave=0.2, clumps=36, end=(0.93, 1.0))]
    if identity.hair_style == "bun":
        return [Sheet(_pulled_back(), strands=3000, wave=0.2, clumps=40, start=(0.0, 0.5))]
    if identity.hair_style == "short":
        return [
            Sheet(
                _mirror(_SIDE, sign),
                strands=1300,
                wave=0.25,
                start=(0.0, 0.7),
                end=(0.6, 1.0),
                shade=0.8,
            )
            for sign in (-1.0, 1.0)
        ] + [
            Sheet(
                _swept(side), strands=4200, wave=0.7, clumps=30, start=(0.0, 0.62), end=(0.75, 1.06)
            )
        ]
    return []


# Guides of the picture's right half, crown to tips, inner edge first.
_LONG: Sides = (
    (
        (-1, -15), (10, -12), (22, -4), (30.5, 10), (34.5, 30),
        (34.5, 52), (32.5, 74), (33, 96), (36, 118),
    ),
    (
        (-1, -28), (12, -27), (28, -19), (38.5, -2), (42.5, 22),
        (42.5, 48), (42, 74), (43, 98), (45, 120),
    ),
    (
        (-1, -42), (16, -40.5), (34, -31), (45.5, -11), (50, 18),
        (51.5, 46), (53, 74), (55, 100), (56, 122),
    ),
)  # fmt: skip
_BOB: Sides = (
    (
        (-1, -20), (13, -16), (25, -5), (32.5, 10), (34.6, 26),
        (34, 44), (32, 60), (29, 72), (25, 80),
    ),
    (
        (-1, -31), (14, -29), (30, -19), (39.5, -2), (42, 18),
        (42.5, 40), (41, 60), (37.5, 75), (32, 84),
    ),
    (
        (-1, -42.5), (17, -41), (35, -30), (46.5, -10), (50.5, 14),
        (51.5, 38), (50, 60), (46, 77), (39, 88),
    ),
)  # fmt: skip
_FRINGE: Sides = (
    ((-6, -35), (-17, -31), (-28, -19), (-33, -4), (-34.5, 13)),
    ((-3, -35), (-9, -31), (-16.5, -19), (-19, -4), (-20, 10.5)),
    ((0, -35), (0, -31), (0, -19), (0.5, -4), (1, 9.5)),
    ((3, -35), (9, -31), (16.5, -19), (19, -4), (20, 10.5)),
    ((6, -35), (17, -31), (28, -19), (33, -4), (34.5, 13)),
)
_BACK: Sides = (
    ((-20, -36), (-41, -18), (-48, 20), (-49, 60), (-51, 92), (-53, 122)),
    ((0, -38), (-10, -10), (-14, 20), (-16, 60), (-17, 92), (-18, 122)),
    ((0, -38), (10, -10), (14, 20), (16, 60), (17, 92), (18, 122)),
    ((20, -36), (41, -18), (48, 20), (49, 60), (51, 92), (53, 122)),
)
_SIDE: Sides = (
    ((27.5, -12), (32.0, -2), (34.4, 10), (36.0, 24), (37.0, 32)),
    ((36.5, -20), (40.8, -6), (41.2, 8), (40.2, 20), (38.6, 31)),
)
_HAIRLINE: Curve = (
    (-36, 8), (-33, -1), (-29.5, -8.5), (-20, -13.5), (-8, -14.5), (0, -13.5),
    (8, -14.5), (20, -13.5), (29.5, -8.5), (33, -1), (36, 8),
)  # fmt: skip
_CROWN: Curve = (
    (-41.5, 0), (-42, -11), (-38, -24), (-27, -36), (-12, -42.5), (0, -44),
    (12, -42.5), (27, -36), (38, -24), (42, -11), (41.5, 0),
)  # fmt: skip


def _mirror(guides: Sides, sign: float) -> Sides:
    return tuple(tuple((sign * x, y) for x, y in guide) for guide in guides)


def _swing(guides: Sides, sign: float, part: float) -> Sides:
    """Guides of one side that begin at a parting off the middle."""
    moved = []
    for guide in guides:
        moved.append(tuple((sign * x + part * max(0.0, 1 - x / 34.0) ** 1.5, y) for x, y in guide))
    return tuple(moved)


def _pulled_back() -> Sides:
    """Guides from the hairline over the skull, as hair in a bun lies."""
    guides = []
    for (rx, ry), (cx, cy) in zip(_HAIRLINE, _CROWN, strict=True):
        guides.append(
            tuple((rx + (cx - rx) * t * 0.94, ry + (cy - ry) * t * 0.94) for t in (0, 0.3, 0.6, 1))
        )
    return tuple(guides)


def _swept(side: float) -> Sides:
    """Guides from the hairline up and over to one side."""
    guides = []
    roots, tips = np.asarray(_HAIRLINE, float), np.asarray(_CROWN, float)
    places = np.linspace(0, 1, len(roots))
    for i, place in enumerate(places):
        target = float(np.clip(place + side * 0.13 * np.sin(np.pi * place), 0, 1))
        tip = np.asarray([np.interp(target, places, tips[:, k]) for k in (0, 1)])
        middle = roots[i] * 0.5 + tip * 0.5
        lift = np.sin(np.pi * place)
        middle = middle + np.asarray([-side * 3.0 * lift, -2.0 * lift])
        end = tip + np.asarray([side * 2.0 * lift, 1.5 * (1 - lift)])
        guides.append(
            (
                (float(roots[i, 0]), float(roots[i, 1])),
                (float(middle[0]), float(middle[1])),
                (float(end[0]), float(end[1])),
            )
        )
    return tuple(guides)
