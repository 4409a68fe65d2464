"""Log-mel spectra as Whisper computes them, of a recording or frame by frame.

Whisper floors at 8 below the loudest value of the whole recording, which a
stream cannot know. A stream's frames are floored at a fixed level, so that each
depends on its own 25 ms only; `engine.audio.features` may raise a window's floor
to 8 below the loudest value so far.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from engine.errors import AudioFormatError
from engine.media import F32, MEL_HOP_SAMPLES, MEL_WINDOW_SAMPLES, SAMPLE_RATE_HZ
from engine.spec import AudioSpec

BINS = MEL_WINDOW_SAMPLES // 2 + 1  # 201
POWER_FLOOR = 1e-10
RANGE_LOG10 = 8.0  # a recording's floor lies this far below its maximum

# The Slaney mel scale: linear below 1 kHz, logarithmic above.
_LINEAR_HZ = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27.0


@lru_cache
def mel_filters(
    n_mels: int, bins: int = BINS, low_hz: float = 0.0, high_hz: float = SAMPLE_RATE_HZ / 2
) -> F32:
    """[n_mels, bins] triangular filters of unit area from `low_hz` to `high_hz`; read-only."""
    mels = np.linspace(_mel(low_hz), _mel(high_hz), n_mels + 2)
    edges = np.where(
        mels < _BREAK_MEL, mels * _LINEAR_HZ, _BREAK_HZ * np.exp(_LOG_STEP * (mels - _BREAK_MEL))
    )
    places = np.linspace(0.0, SAMPLE_RATE_HZ / 2, bins)
    rising = (places - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - places) / np.diff(edges)[1:, None]
    area = 2.0 / (edges[2:] - edges[:-2])
    filters = (np.maximum(0.0, np.minimum(rising, falling)) * area[:, None]).astype(np.float32)
    filters.flags.writeable = False
    return filters


def _mel(hz: float) -> float:
    """A frequency's place on the Slaney scale."""
    if hz < _BREAK_HZ:
        return hz / _LINEAR_HZ
    return float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


@lru_cache
def _window() -> NDArray[np.float64]:
    places = np.arange(MEL_WINDOW_SAMPLES)
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * places / MEL_WINDOW_SAMPLES)


def log10_mel(samples: F32, n_mels: int) -> NDArray[np.float64]:
    """[n_mels, frames] log10 mel power of every whole window in `samples`, hop 160.

    Raises:
        AudioFormatError: `samples` is not one float row with at least one window.
    """
    if samples.ndim != 1 or samples.dtype.kind != "f" or len(samples) < MEL_WINDOW_SAMPLES:
        raise AudioFormatError(
            f"expected float samples [n], n >= {MEL_WINDOW_SAMPLES}, "
            f"got {samples.dtype} {samples.shape}"
        )
    windows = np.lib.stride_tricks.sliding_window_view(samples, MEL_WINDOW_SAMPLES)
    spectrum = np.fft.rfft(windows[::MEL_HOP_SAMPLES] * _window(), axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    mel = mel_filters(n_mels).astype(np.float64) @ power.T
    return np.log10(np.maximum(mel, POWER_FLOOR))


def log_mel_frames(samples: F32, spec: AudioSpec) -> F32:
    """The log-mel frames of a stream, each from its own 400 samples only.

    Args:
        samples: float [n] at 16 kHz; frame j reads samples 160 j .. 160 j + 399
            and so is centred at sample 160 j + 200 of this array.

    Returns:
        [n_mels, (n - 400) // 160 + 1]
    """
    log_power = log10_mel(samples, spec.n_mels)
    return np.asarray((np.maximum(log_power, spec.log_floor) + 4.0) / 4.0, np.float32)


def whisper_log_mel(samples: F32, n_mels: int = 80) -> F32:
    """[n_mels, n // 160] the log-mel of a whole recording, as Whisper normalises it.

    Args:
        samples: float [n] at 16 kHz.
    """
    half = MEL_WINDOW_SAMPLES // 2
    if len(samples) <= half:
        raise AudioFormatError(f"expected more than {half} samples, got {len(samples)}")
    padded = np.pad(samples, half, mode="reflect")
    log_power = log10_mel(padded, n_mels)[:, : len(samples) // MEL_HOP_SAMPLES]
    floored = np.maximum(log_power, log_power.max() - RANGE_LOG10)
    return np.asarray((floored + 4.0) / 4.0, np.float32)
