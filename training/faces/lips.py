"""The shape of a mouth: contours of the lips and the place of teeth and tongue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from training.faces.canvas import Floats
from training.faces.identity import Identity
from training.mouth import BITE, CLOSURE, OPENING, ROUNDING, TEETH, TONGUE, WIDTH

COLUMNS = 321  # samples of a contour
REACH = 20.0  # contours cover x from -REACH to REACH
GAPE = 15.5  # units between the lips at opening 1
INCISOR_SHOW = 1.7  # units that upper incisors reach below the closed mouth's line


@dataclass(frozen=True, slots=True)
class MouthShape:
    """A mouth in face units, x relative to the midline; y relative to the closed mouth's line.

    Attributes:
        contours: float32 [COLUMNS, 4]: y of the upper lip's outer and inner edge, then of the
            lower lip's inner and outer edge, at x = -REACH .. REACH.
        half: half width, corner to corner.
        corner_y: y of the corners.
        drop: how far the skin below the lower lip went down.
        raise_: how far the skin above the upper lip went up.
        jaw: how far the lower teeth went down.
        gap: largest distance between the lips.
        bulge: how far the lips stand out, in units, beyond their rest.
        press: 0..1 lips pressed together.
        bite: 0..1 lower lip under the upper teeth.
        teeth: 0..1 teeth shown.
        tongue: 0..1 tongue tip raised.
        show: units that the upper incisors reach below the closed mouth's line.
    """

    contours: Floats
    half: float
    corner_y: float
    drop: float
    raise_: float
    jaw: float
    gap: float
    bulge: float
    press: float
    bite: float
    teeth: float
    tongue: float
    show: float


def mouth_shape(identity: Identity, row: Floats) -> MouthShape:
    """The shape that one row of a mouth track gives to a face's mouth."""
    closure = float(np.clip(row[CLOSURE], 0, 1))
    bite = float(np.clip(row[BITE], 0, 1)) * (1 - closure)
    opening = float(np.clip(row[OPENING], 0, 1.1)) * (1 - closure) * (1 - 0.75 * bite)
    width = float(np.clip(row[WIDTH], -1, 1))
    rounding = float(np.clip(row[ROUNDING], 0, 1))
    teeth = float(np.clip(row[TEETH], 0, 1)) * (1 - closure)
    tongue = float(np.clip(row[TONGUE], 0, 1)) * (1 - closure)

    spread, narrow = max(width, 0.0), max(-width, 0.0)
    half = identity.mouth_half * (
        1 + 0.19 * spread - 0.15 * narrow - 0.27 * rounding - 0.07 * opening * (1 - spread)
    )
    part = float(min(1.0, opening * 9.0 + 0.0))  # lips come unstuck quickly
    gap = GAPE * opening + 1.6 * teeth * part
    up = (0.13 + 0.10 * rounding) * gap + 1.1 * teeth * part + 1.5 * bite
    down = gap - min(up, 0.6 * gap)
    up -= 1.5 * bite
    up = min(up, 0.6 * gap)

    s = np.linspace(-REACH, REACH, COLUMNS) / half
    inside = np.clip(1 - s * s, 0.0, 1.0)
    stretch = 1 - 0.13 * spread - 0.10 * opening * (1 - rounding)
    roll = 1 - 0.48 * closure
    upper = identity.upper_lip * stretch * (roll + 0.26 * rounding)
    lower = identity.lower_lip * stretch * (roll + 0.22 * rounding)

    # The line where closed lips meet: the corners sit a little up or down, the centre dips.
    corner_y = -identity.corner_lift - 1.3 * spread + 0.55 * down * 0.45 + 0.4 * rounding
    corners = corner_y + 0.45 * identity.skew * s
    meet = corners * (1 - inside) + 0.35 * identity.bow * np.exp(-((s / 0.22) ** 2)) * inside
    meet = meet - 0.45 * np.exp(-(((np.abs(s) - 0.42) / 0.22) ** 2)) * inside

    # Round mouths open only in the middle, spread ones up to the corners.
    open_half = 0.90 - 0.22 * rounding - 0.10 * (1 - spread) * (1 - opening)
    o = np.clip(1 - (s / open_half) ** 2, 0.0, 1.0)
    power = 0.62 + 0.12 * spread - 0.10 * rounding
    lens = o**power
    inner_up = meet * (1 - 0.6 * part * lens) - up * lens
    inner_down = meet * (1 - 0.6 * part * lens) + down * lens

    peaks = np.exp(-(((np.abs(s) - 0.20) / 0.13) ** 2)) - 1.15 * np.exp(-((s / 0.10) ** 2))
    curve_up = inside ** (0.80 - 0.16 * rounding) * (0.90 + 0.13 * identity.bow * peaks)
    curve_up *= 1 - 0.12 * np.abs(s)
    curve_down = inside ** (0.72 - 0.20 * rounding) * (1.0 - 0.05 * np.exp(-((s / 0.12) ** 2)))
    # Outer edges bow from corner to corner even where the opening is narrow.
    full_lens = inside ** (0.62 - 0.08 * rounding + 0.12 * spread)
    line = meet * (1 - 0.6 * part * lens)
    outer_up = np.minimum(line - up * full_lens, inner_up) - upper * curve_up - 0.02
    outer_down = np.maximum(line + down * full_lens, inner_down) + lower * curve_down + 0.02

    # Bite: the upper lip lifts off the teeth, the lower lip rolls in under their edge.
    if bite > 0:
        lens_bite = np.clip(1 - (s / 0.80) ** 2, 0.0, 1.0) ** 0.7
        inner_up = inner_up - 1.5 * bite * lens_bite
        outer_up = outer_up - 1.2 * bite * lens_bite
        inner_down = np.maximum(
            inner_up, inner_down * (1 - bite) + bite * (meet + 0.75 * lens_bite)
        )
        rolled = inner_down + lower * (1 - 0.38 * bite) * curve_down
        outer_down = outer_down * (1 - bite) + rolled * bite
    inner_down = np.maximum(inner_down, inner_up)
    contours = np.stack([outer_up, inner_up, inner_down, outer_down], axis=1)
    middle = COLUMNS // 2
    rest_lower = identity.lower_lip
    drop = float(outer_down[middle] - rest_lower)
    lift = float(-(outer_up[middle] + identity.upper_lip * 0.9))
    return MouthShape(
        contours=contours.astype(np.float32),
        half=half,
        corner_y=float(corner_y),
        drop=drop,
        raise_=lift,
        jaw=max(0.0, 0.72 * GAPE * opening * (1 - 0.25 * rounding) - 0.8 * teeth),
        gap=float((inner_down - inner_up).max()),
        bulge=1.5 * rounding - 0.7 * closure,
        press=closure,
        bite=bite,
        teeth=teeth,
        tongue=tongue,
        show=INCISOR_SHOW - 2.0 * rounding * (1 - teeth) * (1 - bite),
    )
