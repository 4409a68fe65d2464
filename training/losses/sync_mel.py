"""The mel spectrogram that StableSyncNet reads: Wav2Lip's, not Whisper's.

A Lip Sync Expert Is All You Need (2008.10010), with LatentSync's numbers: 16 kHz, pre-emphasis,
50 ms under a periodic Hann window every 12.5 ms (80 columns a second), amplitude in dB.
"""

from __future__ import annotations

import numpy as np

from engine.audio.log_mel import mel_filters
from engine.errors import AudioFormatError
from engine.media import F32, FPS, SAMPLE_RATE_HZ

N_MELS = 80
WINDOW_SAMPLES = 800
HOP_SAMPLES = 200
COLUMNS_PER_S = SAMPLE_RATE_HZ // HOP_SAMPLES
PRE_EMPHASIS = 0.97
LOW_HZ, HIGH_HZ = 55.0, 7600.0
REFERENCE_DB, RANGE_DB = 20.0, 100.0
PEAK = 4.0  # of the scaled values


def sync_mel(samples: F32) -> F32:
    """[80, n // 200 + 1] in [-4, 4] of speech, float32 [n] at 16 kHz; column j is centred at 200 j.

    Raises:
        AudioFormatError: not one float row.
    """
    if samples.ndim != 1 or samples.dtype.kind != "f" or not len(samples):
        raise AudioFormatError(f"expected float samples [n], got {samples.dtype} {samples.shape}")
    emphasised = np.append(samples[:1], samples[1:] - PRE_EMPHASIS * samples[:-1])
    padded = np.pad(emphasised.astype(np.float64), WINDOW_SAMPLES // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW_SAMPLES)[::HOP_SAMPLES]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_SAMPLES) / WINDOW_SAMPLES)
    amplitude = np.abs(np.fft.rfft(windows * hann, axis=1)).T
    filters = mel_filters(N_MELS, WINDOW_SAMPLES // 2 + 1, LOW_HZ, HIGH_HZ)
    floor = 10 ** (-RANGE_DB / 20)
    level_db = 20 * np.log10(np.maximum(filters @ amplitude, floor)) - REFERENCE_DB
    scaled = 2 * PEAK * (level_db + RANGE_DB) / RANGE_DB - PEAK
    return np.clip(scaled, -PEAK, PEAK).astype(np.float32)


def columns_of(start_frame: int, frames: int) -> range:
    """The columns that belong to `frames` video frames: 52 for 16 of them."""
    start = COLUMNS_PER_S * start_frame // FPS
    return range(start, start + -(-frames * COLUMNS_PER_S // FPS))
