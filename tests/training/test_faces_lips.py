"""The shape of a mouth follows its parameters."""

from __future__ import annotations

import numpy as np
import pytest

from engine.media import F32
from training.faces.identity import Identity
from training.faces.lips import COLUMNS, MouthShape, mouth_shape
from training.mouth import BITE, CLOSURE, MOUTH_PARAMETERS, OPENING, ROUNDING, TEETH, WIDTH

IDENTITIES = [Identity.sample(np.random.default_rng(seed)) for seed in range(5)]


def row(**values: float) -> F32:
    track = np.zeros(len(MOUTH_PARAMETERS), np.float32)
    for name, value in values.items():
        track[MOUTH_PARAMETERS.index(name)] = value
    return track


def shape(identity: Identity, **values: float) -> MouthShape:
    return mouth_shape(identity, row(**values))


@pytest.mark.parametrize("identity", IDENTITIES)
def test_lips_touch_at_rest_and_when_pressed(identity: Identity) -> None:
    assert shape(identity).gap == 0
    pressed = shape(identity, closure=1.0, opening=1.0, teeth=1.0)
    assert pressed.gap == 0
    thickness = np.ptp(pressed.contours[COLUMNS // 2])
    assert thickness < 0.7 * np.ptp(shape(identity).contours[COLUMNS // 2])


@pytest.mark.parametrize("identity", IDENTITIES)
def test_gap_grows_with_opening(identity: Identity) -> None:
    gaps = [shape(identity, opening=o).gap for o in np.linspace(0, 1, 11)]
    assert (np.diff(gaps) > 0.5).all()


@pytest.mark.parametrize("identity", IDENTITIES)
def test_corners_spread_with_width_and_narrow_with_rounding(identity: Identity) -> None:
    rest = shape(identity).half
    assert shape(identity, width=1.0).half > 1.1 * rest
    assert shape(identity, width=-1.0).half < 0.92 * rest
    assert shape(identity, rounding=1.0).half < 0.8 * rest
    assert shape(identity, rounding=1.0).bulge > 1.0


@pytest.mark.parametrize("identity", IDENTITIES)
def test_bite_lays_the_lower_lip_under_the_upper_teeth(identity: Identity) -> None:
    bitten = shape(identity, bite=1.0, opening=0.3)
    middle = bitten.contours[COLUMNS // 2]
    assert middle[1] < 0 < middle[2] < bitten.show


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize(
    "values",
    [
        {"opening": 1.0},
        {"opening": 0.4, "rounding": 1.0, "width": -1.0},
        {"opening": 0.3, "width": 1.0, "teeth": 1.0},
        {"closure": 1.0},
        {"bite": 1.0},
    ],
)
def test_contours_never_cross(identity: Identity, values: dict[str, float]) -> None:
    contours = shape(identity, **values).contours
    assert (np.diff(contours, axis=1) >= -1e-4).all()


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("column", [OPENING, WIDTH, ROUNDING, CLOSURE, BITE, TEETH])
def test_shape_is_continuous_in_every_parameter(identity: Identity, column: int) -> None:
    track = np.tile(row(opening=0.15), (201, 1))
    track[:, column] = np.linspace(-1.0 if column == WIDTH else 0.0, 1.0, 201)
    contours = np.stack([mouth_shape(identity, one).contours for one in track])
    inside = contours[:, COLUMNS // 2 - 60 : COLUMNS // 2 + 61]
    assert np.abs(np.diff(inside, axis=0)).max() < 0.3
