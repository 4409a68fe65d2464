"""Log10 mel power of a whole clip, laid out so that frame i's window is a slice."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from engine.media import F32, FRAME_SAMPLES, MEL_HOP_SAMPLES, MEL_WINDOW_SAMPLES, SAMPLE_RATE_HZ
from engine.spec import AudioSpec

MELS_PER_FRAME: Final = FRAME_SAMPLES // MEL_HOP_SAMPLES  # 4
_MELS_PAST_START: Final = 12  # the window of a frame ends 12 log-mel frames after its start
_BINS: Final = MEL_WINDOW_SAMPLES // 2 + 1
_LEAST_POWER: Final = 1e-10


@lru_cache(maxsize=2)
def mel_filters(n_mels: int) -> F32:
    """[201, n_mels] slaney mel filters, as Whisper's."""

    def to_mel(hz: F32) -> F32:
        return np.where(
            hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1) / 1000) / np.log(6.4)
        )

    def to_hz(mel: F32) -> F32:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))

    nyquist = SAMPLE_RATE_HZ / 2
    edges = to_hz(np.linspace(0, to_mel(np.array(nyquist)), n_mels + 2))
    hz = np.linspace(0, nyquist, _BINS)[:, None]
    rise = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    area = 2 / (edges[2:] - edges[:-2])
    return np.asarray(np.maximum(0, np.minimum(rise, fall)) * area, np.float32)


def log_power(samples: F32, spec: AudioSpec) -> F32:
    """float32 [rows, n_mels]: rows [4 i, 4 i + 2 * positions) are the window of frame i.

    Before and after the clip the sound is zero.
    """
    count = len(samples) // MEL_HOP_SAMPLES + 8
    after = count * MEL_HOP_SAMPLES + MEL_WINDOW_SAMPLES - len(samples)
    padded = np.pad(samples, (MEL_WINDOW_SAMPLES // 2, after))
    frames = np.lib.stride_tricks.sliding_window_view(padded, MEL_WINDOW_SAMPLES)
    frames = frames[::MEL_HOP_SAMPLES][:count]
    window = np.hanning(MEL_WINDOW_SAMPLES + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window)).astype(np.float32) ** 2
    log = np.log10(np.maximum(power @ mel_filters(spec.n_mels), _LEAST_POWER))
    before = spec.mel_frames - _MELS_PAST_START
    return np.concatenate([np.full((before, spec.n_mels), -10.0), log]).astype(np.float32)
