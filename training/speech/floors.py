"""Floors that a network must beat: ridge regression, and loudness alone.

    python -m training.speech.floors --speech CORPUS

prints one line of scores a split for three predictors without a network: the
mean mouth, a ridge on the frame's loudness over its window, and a ridge on
random features of its log-mel window.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from engine.media import F32
from training.audio_encoder import BUNDLED_AUDIO, Windows, read_windows, to_log_mel
from training.speech.scores import mouth_scores

log = logging.getLogger(__name__)

Features = Callable[[F32], F32]  # [n, n_mels, 2 * positions] log-mel -> [n, features]
_TRAIN_ROWS: Final = 40_000
_HELD_OUT_FRAMES: Final = 4000
_RANDOM_FEATURES: Final = 1024
_RIDGE: Final = 1e-2
_CHUNK: Final = 2048


def loudness(mel: F32) -> F32:
    """The mean log-mel of every second row of the window: no spectrum, only level."""
    return np.asarray(mel.mean(axis=1)[:, ::2], np.float32)


def random_features(seed: int = 0) -> Features:
    """The pooled window and random tanh projections of it."""
    rng = np.random.default_rng(seed)
    pooled_size = 20 * 16
    project = rng.standard_normal((pooled_size, _RANDOM_FEATURES)) * 1.5 / np.sqrt(pooled_size)
    shift = rng.uniform(-1, 1, _RANDOM_FEATURES)

    def features(mel: F32) -> F32:
        recent = mel[:, :, -32:]
        pooled = recent.reshape(len(mel), 20, 4, 16, 2).mean(axis=(2, 4)).reshape(len(mel), -1)
        return np.concatenate([pooled, np.tanh(pooled @ project + shift)], 1).astype(np.float32)

    return features


def features_of(windows: Windows, frames: NDArray[np.int64], features: Features) -> F32:
    """[n, features + 1] of some frames, with a constant column."""
    spec = BUNDLED_AUDIO
    rows = []
    for first in range(0, len(frames), _CHUNK):
        power = windows.batch(torch.from_numpy(frames[first : first + _CHUNK]), spec.mel_frames)
        rows.append(features(to_log_mel(power, spec.log_floor).numpy()))
    table = np.concatenate(rows)
    return np.concatenate([table, np.ones((len(table), 1), np.float32)], axis=1)


def fit_ridge(table: F32, truth: F32) -> F32:
    """[features + 1, 7] coefficients."""
    square = (table.T @ table).astype(np.float64)
    square += _RIDGE * np.trace(square) / len(square) * np.eye(len(square)) * 0.01
    return np.linalg.solve(square, (table.T @ truth).astype(np.float64)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Scores without a network.")
    parser.add_argument("--speech", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    spec = BUNDLED_AUDIO
    train = read_windows(arguments.speech / "train", spec, 2 * _TRAIN_ROWS)
    rng = np.random.default_rng(0)
    frames = rng.choice(len(train.mouth), min(_TRAIN_ROWS, len(train.mouth)), replace=False)
    truth = train.mouth.numpy()[frames]
    for name, features in (("loudness", loudness), ("ridge", random_features())):
        coefficients = fit_ridge(features_of(train, frames, features), truth)
        for split in ("sentences", "voices", "language", "engine"):
            windows = read_windows(arguments.speech / split, spec, _HELD_OUT_FRAMES)
            everything = np.arange(len(windows.mouth))
            predicted = features_of(windows, everything, features) @ coefficients
            scores = mouth_scores(predicted, windows.mouth.numpy(), windows.clips)
            log.info("%s %s %s", name, split, json.dumps(scores))


if __name__ == "__main__":
    main()
