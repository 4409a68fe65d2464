"""Reads mouths off crops of a face that it knows: no trained judge is needed.

A ridge from pixels around the lips to mouth parameters, one a face, learnt from
a sequence of rendered truth that is scored nowhere. It is linear, so its error on
the scored truth, which it has not seen, stands beside every figure it gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from engine.media import F32, U8

PATCH: Final = (28, 26)  # pixels across and down that the lips' box is averaged to
_RIDGE: Final = 3e-2  # of the kernel's mean diagonal


@dataclass(frozen=True, slots=True)
class MouthReader:
    """Coefficients of one face.

    Attributes:
        box: the lips' box in crop pixels, left, top, right, bottom.
        mean: [features] of the crops learnt from.
        weights: float32 [features, parameters], added to `offset` [parameters].
    """

    box: tuple[int, int, int, int]
    mean: F32
    weights: F32
    offset: F32

    @classmethod
    def fit(cls, crops: U8, mouth: F32, box: tuple[int, int, int, int]) -> MouthReader:
        """The reader of crops [n, R, R, 3] with the known mouths [n, parameters]."""
        table = features(crops, box)
        mean, offset = table.mean(axis=0), mouth.mean(axis=0)
        centred = (table - mean).astype(np.float64)
        kernel = centred @ centred.T  # fewer crops than features
        kernel += _RIDGE * np.trace(kernel) / len(kernel) * np.eye(len(kernel))
        weights = centred.T @ np.linalg.solve(kernel, (mouth - offset).astype(np.float64))
        return cls(box, mean, weights.astype(np.float32), np.asarray(offset, np.float32))

    def read(self, crops: U8) -> F32:
        """float32 [n, parameters] of crops [n, R, R, 3] of the same face."""
        found = (features(crops, self.box) - self.mean) @ self.weights + self.offset
        return np.asarray(found, np.float32)


def features(crops: U8, box: tuple[int, int, int, int]) -> F32:
    """float32 [n, features]: the lips' box, averaged down, in [0, 1]."""
    left, top, right, bottom = box
    small = [
        cv2.resize(crop[top:bottom, left:right], PATCH, interpolation=cv2.INTER_AREA)
        for crop in crops
    ]
    return np.stack(small).reshape(len(crops), -1).astype(np.float32) / np.float32(255.0)
