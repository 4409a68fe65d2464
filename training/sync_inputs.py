"""What the sync expert is shown: a mouth's pictures, and the log-mel of the same time.

Pictures come as crops of any geometry of the engine (`engine.spec.FaceSpec`), so of any
video: three points of a face give the crop (`engine.face.align`), and the crop gives the
expert's view: a square of 72 px around the mouth in the bundled model's crop of 128, made
32 px small.

Sound comes as 16 kHz samples; two rows of 40 mel bands belong to each video frame.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from engine.face.align import align_affine
from engine.face.paste_back import square_affine
from engine.media import F32, FRAME_SAMPLES, U8
from engine.spec import AudioSpec, FaceSpec
from training.audio_encoder import to_log_mel
from training.dataset import BUNDLED_FACE, RESOLUTION
from training.speech.features import MELS_PER_FRAME, log_power

VIEW: Final = 32  # pixels a side of what the network sees
MELS: Final = 40
LOG_FLOOR: Final = -5.0  # log10 mel power below which all is silence
# The view in the bundled model's crop: left, top, right, bottom in pixels of 128. Lips at
# every opening reach from x 32 to 96 and from y 42 to 102.
VIEW_BOX: Final = (28, 31, 100, 103)
SOUND: Final = AudioSpec(n_mels=MELS, positions=16, log_floor=LOG_FLOOR)
ROWS_PER_FRAME: Final = 2  # of 20 ms, each the mean of two log-mel frames
# Of `log_power`, log-mel frames of silence before a clip's first and after its last.
_MELS_BEFORE: Final = SOUND.mel_frames - 12
_MELS_AFTER: Final = 12 - MELS_PER_FRAME

_TEMPLATE: Final = np.asarray(((17.0, 20.0), (58.0, 20.0), (37.5, 40.0)), np.float32)
DOUBLE: Final = 2  # the view is cut out at twice its size, then averaged


def view_affine(face: FaceSpec, resolution: int) -> F32:
    """[2, 3] from pixels of a model's crop to the view at twice its size."""
    own = square_affine(align_affine(_TEMPLATE, face), face, resolution)
    bundled = square_affine(align_affine(_TEMPLATE, BUNDLED_FACE), BUNDLED_FACE, RESOLUTION)
    left, top, right, _ = VIEW_BOX
    scale = DOUBLE * VIEW / (right - left)
    to_view = np.asarray(((scale, 0, -scale * left), (0, scale, -scale * top)), np.float32)
    chain = _square(to_view) @ _square(bundled) @ np.linalg.inv(_square(own))
    return np.asarray(chain[:2], np.float32)


def mouth_views(crops: U8, face: FaceSpec = BUNDLED_FACE, resolution: int = RESOLUTION) -> U8:
    """uint8 [n, 32, 32, 3] of RGB crops [n, R, R, 3] of any model."""
    return views_by(crops, view_affine(face, resolution))


def views_by(crops: U8, affine: F32) -> U8:
    """uint8 [n, 32, 32, 3] by an affine [2, 3] to the view at twice its size."""
    size = (DOUBLE * VIEW, DOUBLE * VIEW)
    views = np.empty((len(crops), VIEW, VIEW, 3), np.uint8)
    for view, crop in zip(views, crops, strict=True):
        cut = cv2.warpAffine(crop, affine, size, borderMode=cv2.BORDER_REPLICATE)
        cv2.resize(cut, (VIEW, VIEW), dst=view, interpolation=cv2.INTER_AREA)
    return views


def stacked(views: F32, frames: int) -> F32:
    """float32 [n - frames + 1, 3 * frames, 32, 32]: every run of `frames` pictures as channels.

    Args:
        views: [n, 3, 32, 32].
    """
    runs = np.lib.stride_tricks.sliding_window_view(views, frames, axis=0)
    return np.ascontiguousarray(np.moveaxis(runs, -1, 1)).reshape(len(runs), -1, VIEW, VIEW)


def sound_rows(samples: F32) -> F32:
    """float32 [2 * frames, 40] log10 mel power of 16 kHz sound.

    Raises:
        ValueError: samples that are not whole frames.
    """
    if rest := len(samples) % FRAME_SAMPLES:
        raise ValueError(f"expected whole frames of {FRAME_SAMPLES} samples, got {rest} more")
    return rows_of(log_power(samples, SOUND))


def rows_of(power: NDArray[np.floating[Any]]) -> F32:
    """[2 * frames, 40] of a clip's `log_power`, which has silence on both sides."""
    own = power[_MELS_BEFORE : len(power) - _MELS_AFTER].astype(np.float32)
    pairs = own.reshape(-1, MELS_PER_FRAME // ROWS_PER_FRAME, MELS)
    return np.asarray(pairs.mean(axis=1), np.float32)


def sound_windows(rows: F32, frames: int) -> F32:
    """float32 [n - frames + 1, 1, 40, 2 * frames] log-mel of every run of `frames` frames.

    Args:
        rows: [2 * n, 40] log10 mel power.
    """
    log_mel = to_log_mel(torch.from_numpy(rows), LOG_FLOOR).numpy()
    runs = np.lib.stride_tricks.sliding_window_view(log_mel, ROWS_PER_FRAME * frames, axis=0)
    return np.ascontiguousarray(runs[::ROWS_PER_FRAME, None])


def _square(affine: F32) -> NDArray[np.float64]:
    return np.vstack([affine.astype(np.float64), (0.0, 0.0, 1.0)])
