"""What all backends make of what comes in: checks, pictures as numbers, the fixed noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engine.backends.base import HopInput
from engine.errors import AudioFormatError, StreamError, VideoFormatError
from engine.media import F32, U8
from engine.spec import ModelSpec


def latents_shape(spec: ModelSpec) -> tuple[int, int, int]:
    """[C, s, s] of one face crop."""
    return (spec.codec.latent_channels, spec.latent_size, spec.latent_size)


def session_noise(spec: ModelSpec, seed: int, count: int = 1) -> F32:
    """float32 [count, C, s, s]: a session's fixed noises, the same for every frame and backend.

    Fresh noise would flicker. The first one does not depend on `count`.
    """
    shape = (count, *latents_shape(spec))
    noise: F32 = np.random.default_rng(seed).standard_normal(shape, np.float32)
    return noise


def to_network(crops: U8) -> F32:
    """float32 [n, 3, R, R] in [-1, 1] of uint8 RGB [n, R, R, 3]."""
    image = np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32)
    image *= 1.0 / 127.5
    image -= 1.0
    return image


def to_pictures(image: F32) -> U8:
    """uint8 RGB [n, R, R, 3] of float32 [n, 3, R, R] in about [-1, 1]."""
    scaled = image * 127.5
    scaled += 128.0  # 127.5, and a half so that the cut rounds
    np.clip(scaled, 0.0, 255.0, out=scaled)
    return np.ascontiguousarray(scaled.astype(np.uint8).transpose(0, 2, 3, 1))


def check_crops(spec: ModelSpec, crops: U8) -> None:
    """Raises VideoFormatError unless crops are uint8 [n, R, R, 3]."""
    want = (spec.resolution, spec.resolution, 3)
    if crops.dtype != np.uint8 or crops.ndim != 4 or crops.shape[1:] != want:
        raise VideoFormatError(
            f"expected face crops as uint8 [n, {', '.join(map(str, want))}], "
            f"got {crops.dtype} {crops.shape}"
        )


def check_new_session(spec: ModelSpec, hop_frames: int) -> None:
    """Raises StreamError unless a session can start so."""
    if not 1 <= hop_frames <= spec.window_frames:
        raise StreamError(f"expected a hop of 1 to {spec.window_frames} frames, got {hop_frames}")


def check_batch(spec: ModelSpec, batch: Sequence[HopInput], hops: Sequence[int]) -> int:
    """The hop length that all inputs of a batch share.

    Args:
        hops: the hop length of each input's session.

    Raises:
        StreamError: sessions of several hop lengths, or one session twice.
        AudioFormatError: a mel window of another shape.
        VideoFormatError: masked or reference latents of another shape.
    """
    if len(set(hops)) != 1:
        raise StreamError(f"expected one hop length in a batch, got {sorted(set(hops))}")
    if len({id(item.state) for item in batch}) != len(batch):
        raise StreamError("expected every session once in a batch")
    hop = hops[0]
    mel_shape = (hop, spec.audio.n_mels, spec.audio.mel_frames)
    face_shape = (hop, *latents_shape(spec))
    for item in batch:
        if item.mel.shape != mel_shape:
            raise AudioFormatError(
                f"expected log-mel windows of shape {mel_shape}, got {item.mel.shape}"
            )
        for kind, latents in (("masked", item.masked_latents), ("reference", item.ref_latents)):
            if latents.shape != face_shape:
                raise VideoFormatError(
                    f"expected {kind} latents of shape {face_shape}, got {latents.shape}"
                )
    return hop
