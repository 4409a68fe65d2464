"""An expression that a face wears while it speaks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from training.faces.identity import Identity


@dataclass(frozen=True, slots=True)
class Expression:
    """What muscles other than those of speech do.

    A mouth's parameters count from the face's own rest, so that a smile changes what the
    rest looks like and leaves the truth of a mouth as it is.

    Attributes:
        smile: 0..1: corners up and out, fuller cheeks, deeper folds.
        brow: -1 drawn together and down .. 1 raised.
        squint: 0..1, lids narrowed.
    """

    smile: float = 0.0
    brow: float = 0.0
    squint: float = 0.0

    @classmethod
    def sample(cls, rng: np.random.Generator) -> Expression:
        """Mostly calm, at times smiling."""
        smile = float(rng.beta(1.0, 2.2)) if rng.random() < 0.6 else 0.0
        brow = float(np.clip(rng.normal(0.0, 0.4), -1, 1))
        return cls(smile, brow, float(np.clip(rng.normal(0.4 * smile, 0.25), 0, 1)))

    def worn_by(self, identity: Identity) -> Identity:
        """The face with this expression at rest; its alignment points do not move."""
        smile = self.smile
        return dataclasses.replace(
            identity,
            smile=smile,
            squint=self.squint,
            brow_raise=self.brow,
            corner_lift=identity.corner_lift + 2.6 * smile,
            mouth_half=identity.mouth_half * (1 + 0.055 * smile),
            upper_lip=identity.upper_lip * (1 - 0.07 * smile),
            cheek=min(identity.cheek + 0.25 * smile, 1.0),
        )
