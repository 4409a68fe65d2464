"""A backend's first hops: they compile and fill caches, and show that it works and how fast."""

from __future__ import annotations

import logging
import statistics
import time

import numpy as np

from engine.backends.base import Backend, HopInput
from engine.backends.portable import is_portable
from engine.media import FRAME_SAMPLES, SAMPLE_RATE_HZ

logger = logging.getLogger(__name__)

SHORT_HOPS = (1, 2)  # used below the model's own length, while there is room
WARM_HOPS = 6  # the first ones compile and fill caches
WARM_MS = 20_000  # a model that is far too slow is not warmed up any longer


def warm_up(backend: Backend, hop_frames: int) -> float:
    """The median time of one hop in ms, run on grey faces and silence.

    Raises:
        Exception: whatever a backend that does not work here raises.
    """
    spec = backend.spec
    backend.warm_up(hop_frames)
    crops = np.full((hop_frames, spec.resolution, spec.resolution, 3), 128, np.uint8)
    masked = backend.encode(crops, masked=True)
    whole = backend.encode(crops, masked=False)
    state = backend.new_session(hop_frames=hop_frames, seed=0)
    mel = np.zeros((hop_frames, spec.audio.n_mels, spec.audio.mel_frames), np.float32)
    times: list[float] = []
    while len(times) < WARM_HOPS and sum(times) < WARM_MS:
        began = time.monotonic()
        backend.run_hop([HopInput(state, mel, masked, whole)])
        times.append((time.monotonic() - began) * 1000)
    return statistics.median(times)


def hop_lengths(backend: Backend, longest: int, *, shorter: bool) -> list[int]:
    """The lengths of hops that sessions may have, the longest first.

    Args:
        shorter: they may be shorter while there is room, where sessions can change theirs.
    """
    if not shorter or not is_portable(backend, longest):
        return [longest]
    return [longest, *(length for length in SHORT_HOPS if length < longest)]


def warm_hops(backend: Backend, longest: int, *, shorter: bool) -> dict[int, float]:
    """The median time of one hop in ms by its length, of the longest one only if it is too slow.

    Args:
        shorter: as of `hop_lengths`.
    """
    hops_ms = {longest: warm_up(backend, longest)}
    if in_real_time(backend, longest, hops_ms[longest]):
        lengths = hop_lengths(backend, longest, shorter=shorter)
        hops_ms |= {length: warm_up(backend, length) for length in lengths[1:]}
    return hops_ms


def in_real_time(backend: Backend, hop_frames: int, hop_ms: float) -> bool:
    """Whether a hop takes less time than its frames; the log says what follows if not."""
    own_ms = hop_frames * FRAME_SAMPLES * 1000 / SAMPLE_RATE_HZ
    if hop_ms <= own_ms:
        return True
    logger.warning(
        "%s on %s is too slow for real time: a hop of %.0f ms takes %.0f ms. Calls will "
        "mostly show source pictures; lipwire render works at its own speed.",
        backend.spec.name,
        backend.name,
        own_ms,
        hop_ms,
    )
    return False
