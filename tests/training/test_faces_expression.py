"""An expression changes a face's rest and neither its alignment nor the truth of its mouth."""

from __future__ import annotations

import numpy as np
import pytest

from training.faces.expression import Expression
from training.faces.identity import Identity
from training.faces.lips import mouth_shape
from training.mouth import rest_mouth

FACE = Identity.sample(np.random.default_rng(8))


def test_a_smile_lifts_and_widens_the_corners_of_a_mouth_that_stays_shut() -> None:
    calm, smiling = (
        mouth_shape(face, rest_mouth(1)[0]) for face in (FACE, Expression(smile=1.0).worn_by(FACE))
    )
    assert smiling.corner_y < calm.corner_y - 1.0
    assert smiling.half > calm.half
    assert smiling.gap == 0


@pytest.mark.parametrize("seed", range(4))
def test_no_expression_moves_the_alignment_points(seed: int) -> None:
    expression = Expression.sample(np.random.default_rng(seed))
    assert expression.worn_by(FACE).points == FACE.points
