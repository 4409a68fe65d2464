"""What can be read off the sound by ridge regression: floors, and encoders beside them.

    python -m training.speech.floors --speech CORPUS [--encoder FILE ...]

prints one line of scores a split for two predictors without a network, a ridge
on the frame's loudness over its window and a ridge on random features of its
log-mel window, which a network must beat; and for a ridge on the tokens of
every bundled encoder that is named, all fitted on the same frames.
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
from safetensors.torch import load_file

from engine.media import F32
from engine.models.whisper import WhisperEncoder
from engine.spec import AUDIO_STEPS
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


def tokens_of(path: Path) -> Features:
    """The last state of the ten steps that drive a frame, from an encoder's weights."""
    encoder = WhisperEncoder(BUNDLED_AUDIO)
    encoder.load_state_dict(load_file(path))

    def features(mel: F32) -> F32:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            tokens = encoder(torch.from_numpy(mel)).float()
        last = tokens.unflatten(1, (AUDIO_STEPS, -1))[:, :, -1].flatten(1)
        return np.asarray(last.numpy(), np.float32)

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
    parser = argparse.ArgumentParser(description="Scores of what a ridge reads off the sound.")
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, nargs="*", default=[], help="weights to compare")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    spec = BUNDLED_AUDIO
    train = read_windows(arguments.speech / "train", spec, 2 * _TRAIN_ROWS)
    rng = np.random.default_rng(0)
    frames = rng.choice(len(train.mouth), min(_TRAIN_ROWS, len(train.mouth)), replace=False)
    truth = train.mouth.numpy()[frames]
    readings = [("loudness", loudness), ("ridge", random_features())]
    readings += [(str(path), tokens_of(path)) for path in arguments.encoder]
    for name, features in readings:
        coefficients = fit_ridge(features_of(train, frames, features), truth)
        for path in sorted(arguments.speech.glob("*/clips.json")):
            split = path.parent.name
            if split == "train":
                continue
            windows = read_windows(path.parent, spec, _HELD_OUT_FRAMES)
            everything = np.arange(len(windows.mouth))
            predicted = features_of(windows, everything, features) @ coefficients
            scores = mouth_scores(predicted, windows.mouth.numpy(), windows.clips)
            log.info("%s %s %s", name, split, json.dumps(scores))


if __name__ == "__main__":
    main()
