"""Log10 mel power of a whole clip, laid out so that frame i's window is a slice."""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.audio.log_mel import log10_mel
from engine.media import F32, FRAME_SAMPLES, MEL_HOP_SAMPLES, MEL_WINDOW_SAMPLES
from engine.spec import AudioSpec

MELS_PER_FRAME: Final = FRAME_SAMPLES // MEL_HOP_SAMPLES  # 4
_MELS_PAST_START: Final = 12  # the window of a frame ends 12 log-mel frames after its start


def log_power(samples: F32, spec: AudioSpec) -> F32:
    """float32 [rows, n_mels]: rows [4 i, 4 i + 2 * positions) are the window of frame i.

    Before and after the clip, which is whole frames long, the sound is zero.
    """
    rows_before = spec.mel_frames - _MELS_PAST_START
    rows = rows_before + len(samples) // MEL_HOP_SAMPLES + _MELS_PAST_START - MELS_PER_FRAME
    before = rows_before * MEL_HOP_SAMPLES + MEL_WINDOW_SAMPLES // 2
    length = (rows - 1) * MEL_HOP_SAMPLES + MEL_WINDOW_SAMPLES
    padded = np.pad(samples, (before, length - before - len(samples)))
    return np.ascontiguousarray(log10_mel(padded, spec.n_mels).T, np.float32)
