"""Face crops from a folder of pictures, a part of them held out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from torch import Tensor

from engine.errors import ConfigError
from training.dataset import Split, to_tensor
from training.model_crops import resized

log = logging.getLogger(__name__)

SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".webp")
HELD_OUT_EVERY: Final = 10  # one of so many, in the order of their names


class PictureFolder:
    """Square pictures of faces under a folder, cropped as a model sees them.

    A file that cannot be used is reported once, with its reason, and left out.
    """

    def __init__(self, folder: Path, resolution: int) -> None:
        """Raises ConfigError where there are fewer than two pictures."""
        paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
        if len(paths) < 2:
            raise ConfigError(f"expected at least two pictures under {folder}, found {len(paths)}")
        self._resolution = resolution
        self._paths: dict[Split, list[Path]] = {
            "test": paths[::HELD_OUT_EVERY],
            "train": [path for place, path in enumerate(paths) if place % HELD_OUT_EVERY],
        }
        self._unusable: set[Path] = set()

    def __call__(self, count: int, split: Split, seed: int) -> Tensor:
        """[count, 3, R, R] in [-1, 1], a function of the seed.

        Raises:
            ConfigError: no picture of the split can be used.
        """
        rng, paths = np.random.default_rng((14, seed)), self._paths[split]
        found: list[Tensor] = []
        while len(found) < count:
            if self._unusable.issuperset(paths):
                raise ConfigError(f"expected usable pictures, all {len(paths)} of {split} are not")
            picture = self._read(paths[int(rng.integers(len(paths)))])
            found += [] if picture is None else [picture]
        return torch.cat(found)

    def _read(self, path: Path) -> Tensor | None:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if picture is not None and picture.shape[0] == picture.shape[1]:
            return resized(to_tensor(np.asarray(picture, np.uint8)[None]), self._resolution)
        if path not in self._unusable:
            self._unusable.add(path)
            why = "it is no picture"
            if picture is not None:
                why = f"it is {picture.shape[1]} x {picture.shape[0]} and not square"
            log.warning("%s is left out: %s", path, why)
        return None
