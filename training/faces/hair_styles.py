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
        fill: a mass of the hair's colour lies under the strands.
        gather: how far the strands of a lock meet at its tip, 0..1.
        length: of a strand along the guides, where it ends before them; 0 where it does not.
        curl: radius of its turns in units.
    """

    guides: Sides
    behind: bool = False
    strands: int = 2200
    clumps: int = 26
    wave: float = 0.5
    start: tuple[float, float] = (-0.01, 0.15)
    end: tuple[float, float] = (0.8, 1.0)
    shade: float = 1.0
    fill: bool = True
    gather: float = 0.45
    length: float = 0.0
    curl: float = 0.0


def hair_sheets(identity: Identity) -> list[Sheet]:
    """The sheets of the identity's style, back to front."""
    side = 1.0 if identity.texture_seed % 2 else -1.0
    part = 7.0 * side
    wave = 0.3 + 2.2 * (identity.texture_seed % 97) / 97.0
    if identity.hair_style == "long":
        sheets = [Sheet(_BACK, behind=True, strands=2600, shade=0.45, wave=wave, end=(0.97, 1.0))]
        for sign in (-1.0, 1.0):
            sheets.append(Sheet(_swing(_LONG, sign, part), strands=3000, wave=wave))
            sheets.append(
                Sheet(
                    _swing(_LOOSE, sign, part), strands=70, wave=wave, fill=False, gather=0.1,
                    start=(0.1, 0.3), end=(0.5, 0.9), clumps=8,
                )
            )  # fmt: skip
        return sheets
    if identity.hair_style == "bob":
        back = tuple(tuple((x * 0.92, min(y, 0.62 * y + 7.6)) for x, y in g) for g in _BACK)
        sheets = [Sheet(back, behind=True, strands=1800, shade=0.4, wave=0.3, end=(0.93, 1.0))]
        sheets += [
            Sheet(_swing(_BOB, sign, 0.0), strands=2800, wave=0.25, clumps=40)
            for sign in (-1.0, 1.0)
        ]
        return [*sheets, Sheet(_FRINGE, strands=2400, wave=0.2, clumps=36, end=(0.93, 1.0))]
    if identity.hair_style == "bun":
        return [Sheet(_pulled_back(), strands=3400, wave=0.2, clumps=60, start=(0.0, 0.5))]
    if identity.hair_style == "curly":
        crown = _pulled_back(1.02 + 0.2 * (1 - identity.masculine))
        return [
            Sheet(
                crown, strands=5200, wave=0.3, clumps=60, start=(0.0, 0.98), length=0.10,
                curl=0.9, gather=0.0,
            )
        ]  # fmt: skip
    if identity.hair_style == "buzz":
        return [
            Sheet(
                _pulled_back(0.84), strands=7000, wave=0.1, clumps=80, start=(-0.04, 0.98),
                length=0.045, gather=0.1, shade=0.75,
            )
        ]  # fmt: skip
    if identity.hair_style == "short":
        sides = [
            Sheet(
                _mirror(_SIDE, sign), strands=1800, wave=0.2, start=(0.0, 0.75), length=0.25,
                shade=0.7, gather=0.2,
            )
            for sign in (-1.0, 1.0)
        ]  # fmt: skip
        top = Sheet(
            _swept(side), strands=5200, wave=0.45, clumps=46, start=(-0.02, 0.62),
            end=(0.82, 1.04), gather=0.35,
        )  # fmt: skip
        return [*sides, top]
    return []


# Guides of the picture's right half, crown to tips, inner edge first.
_LONG: Sides = (
    (
        (-1, -17.5), (10, -15), (20.5, -8), (28.5, 3), (33.4, 16),
        (36.3, 32), (37, 54), (35.5, 76), (34, 98), (31, 114),
    ),
    (
        (-1, -31), (12, -29), (26, -20.5), (36, -6), (41, 12),
        (43, 36), (43.5, 60), (43.5, 84), (42.5, 106), (39, 121),
    ),
    (
        (-1, -40.5), (15, -39), (31, -31), (43, -15), (49, 8),
        (51.5, 34), (53, 60), (54, 86), (53, 108), (47, 126),
    ),
)  # fmt: skip
# A few hairs that left the mass and hang before the temples.
_LOOSE: Sides = (
    tuple((0.93 * x, y + 1.5) if y > 0 else (x, y) for x, y in _LONG[0]),
    tuple((1.02 * x, y) for x, y in _LONG[0]),
)
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
    ((29.5, -8), (33.0, 2), (34.9, 12), (36.0, 24), (37.0, 35)),
    ((36.5, -18), (40.3, -5), (40.9, 8), (40.2, 20), (38.8, 33)),
)
_HAIRLINE: Curve = (
    (-37.3, 27), (-35.5, 14), (-33.0, 3), (-29.5, -5), (-20, -10), (-8, -11.5), (0, -11),
    (8, -11.5), (20, -10), (29.5, -5), (33.0, 3), (35.5, 14), (37.3, 27),
)  # fmt: skip
_CROWN: Curve = (
    (-39.6, 25), (-41, 8), (-41, -7), (-37, -20), (-26.5, -31.5), (-12, -37.5), (0, -39),
    (12, -37.5), (26.5, -31.5), (37, -20), (41, -7), (41, 8), (39.6, 25),
)  # fmt: skip


def _mirror(guides: Sides, sign: float) -> Sides:
    return tuple(tuple((sign * x, y) for x, y in guide) for guide in guides)


def _swing(guides: Sides, sign: float, part: float) -> Sides:
    """Guides of one side that begin at a parting off the middle."""
    moved = []
    for guide in guides:
        moved.append(tuple((sign * x + part * max(0.0, 1 - x / 34.0) ** 1.5, y) for x, y in guide))
    return tuple(moved)


def _pulled_back(rise: float = 1.0) -> Sides:
    """Guides from the hairline over the skull, as hair in a bun lies; `rise` 1 is its volume."""
    guides = []
    crown = [(x * (0.7 + 0.3 * rise), y * rise) for x, y in _CROWN]
    for (rx, ry), (cx, cy) in zip(_HAIRLINE, crown, strict=True):
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
