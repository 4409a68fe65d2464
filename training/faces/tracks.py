"""Tracks that need no recording: head motion, and a mouth that babbles."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from engine.media import F32
from training.faces.pose import Pose
from training.mouth import BITE, CLOSURE, OPENING, ROUNDING, TEETH, TONGUE, WIDTH, rest_mouth

YAW_LIMIT, PITCH_LIMIT = 0.524, 0.349  # 30 and 20 degrees


def smooth_walk(frames: int, sigma_frames: float, rng: np.random.Generator) -> F32:
    """float32 [frames]: smooth noise of unit variance."""
    margin = int(4 * sigma_frames) + 1
    white = rng.standard_normal(frames + 2 * margin)
    walk = gaussian_filter1d(white, sigma_frames)[margin:-margin]
    return np.asarray(walk * np.sqrt(2 * np.sqrt(np.pi) * sigma_frames), np.float32)


def head_motion(frames: int, amount: float, rng: np.random.Generator) -> list[Pose]:
    """Poses of a head that listens and talks; `amount` 1 is lively.

    Some of them look aside all the time: yaw reaches 30 degrees, pitch 20.
    """
    aside = rng.random() < 0.3
    base_yaw = rng.uniform(-0.45, 0.45) if aside else rng.normal(0, 0.10)
    base_pitch = rng.uniform(-0.27, 0.27) if aside else rng.normal(0, 0.07)
    slow = [smooth_walk(frames, s, rng) for s in (18, 14, 20, 22, 22, 40)]
    yaw = np.clip(base_yaw + amount * 0.055 * slow[0], -YAW_LIMIT, YAW_LIMIT)
    pitch = np.clip(base_pitch + amount * 0.04 * slow[1], -PITCH_LIMIT, PITCH_LIMIT)
    return [
        Pose(
            float(yaw[i]),
            float(pitch[i]),
            float(amount * 0.02 * slow[2][i]),
            float(amount * 1.0 * slow[3][i]),
            float(amount * 0.7 * slow[4][i]),
            float(1 + amount * 0.01 * slow[5][i]),
        )
        for i in range(frames)
    ]


def alignment_jitter(frames: int, amount: float, rng: np.random.Generator) -> list[Pose]:
    """How far off a landmark detector is: a constant part and a small, quick one."""
    constant = rng.normal(0, 1, 4)
    slow = [smooth_walk(frames, 6, rng) for _ in range(4)]
    roll, dx, dy, scale = (amount * (c + 0.35 * s) for c, s in zip(constant, slow, strict=True))
    return [
        Pose(
            0.0,
            0.0,
            float(0.008 * roll[i]),
            float(0.4 * dx[i]),
            float(0.6 * dy[i]),
            float(np.clip(1 + 0.012 * scale[i], 0.96, 1.04)),
        )
        for i in range(frames)
    ]


def babble_track(frames: int, rng: np.random.Generator) -> F32:
    """float32 [frames, 7]: a mouth that runs through all its shapes, without any sound."""
    keys = rest_mouth(frames)
    at = int(rng.integers(2, 12))
    while at < frames:
        length = int(rng.integers(2, 7))
        keys[at : at + length] = _random_shape(rng)
        at += length
        if rng.random() < 0.12:
            at += int(rng.integers(4, 16))
    return np.asarray(gaussian_filter1d(keys, 0.9, axis=0), np.float32)


def _random_shape(rng: np.random.Generator) -> F32:
    row = np.asarray(rest_mouth(1)[0])
    kind = rng.integers(7)
    if kind == 0:
        row[CLOSURE] = rng.uniform(0.7, 1.0)
        row[WIDTH] = rng.uniform(-0.4, 0.4)
    elif kind == 1:
        row[BITE], row[OPENING] = rng.uniform(0.6, 1.0), rng.uniform(0.0, 0.15)
    elif kind == 2:
        row[ROUNDING], row[WIDTH] = rng.uniform(0.4, 1.0), rng.uniform(-1.0, -0.2)
        row[OPENING] = rng.uniform(0.05, 0.5)
    elif kind == 3:
        row[TONGUE], row[OPENING] = rng.uniform(0.5, 1.0), rng.uniform(0.1, 0.35)
        row[TEETH] = rng.uniform(0.0, 0.6)
    elif kind == 4:
        row[TEETH], row[WIDTH] = rng.uniform(0.5, 1.0), rng.uniform(-0.1, 0.7)
        row[OPENING] = rng.uniform(0.06, 0.3)
    else:
        row[OPENING], row[WIDTH] = rng.beta(1.6, 2.2), rng.uniform(-0.4, 1.0)
        row[TEETH], row[TONGUE] = rng.uniform(0, 0.5), rng.uniform(0, 0.3)
    return row
