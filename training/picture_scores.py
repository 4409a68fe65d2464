"""How near generated faces come to rendered truth, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from engine.media import F32, U8
from training.batches import keep_pixels
from training.codec import psnr
from training.dataset import MOUTH_BOX

SMALLEST_DETAIL: Final = 1e-3


def mouth_of(video: U8) -> F32:
    """float32 [frames, h, w, 3]: the mouth's box."""
    size = video.shape[1]
    left, top, right, bottom = (round(edge * size) for edge in MOUTH_BOX)
    return video[:, top:bottom, left:right].astype(np.float32)


def skin_of(video: U8) -> F32:
    """float32 [frames, n, 3]: the pixels of the mask outside of the mouth's box."""
    inside = keep_pixels().numpy() < 0.5
    size = len(inside)
    left, top, right, bottom = (round(edge * size) for edge in MOUTH_BOX)
    inside[top:bottom, left:right] = False
    return video[:, inside].astype(np.float32)


def detail_of(video: U8) -> float:
    """Mean magnitude of the Laplacian of the brightness inside the mask, in levels."""
    inside = keep_pixels().numpy() < 0.5
    found = []
    for frame in video:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        found.append(np.abs(cv2.Laplacian(grey, cv2.CV_32F))[inside].mean())
    return float(np.mean(found))


def boundary_ratio(videos: Sequence[U8], hop: int) -> float:
    """Mean |frame difference| of the mouth at hop borders over that inside hops; 1 is seamless."""
    border, inside = [], []
    for video in videos:
        change = np.abs(np.diff(mouth_of(video), axis=0)).mean(axis=(1, 2, 3))
        at_border = np.arange(1, len(video)) % hop == 0
        border.append(change[at_border])
        inside.append(change[~at_border])
    return float(np.concatenate(border).mean() / np.concatenate(inside).mean())


def mouth_psnr(videos: Sequence[U8], truths: Sequence[U8]) -> float:
    """PSNR in dB in the mouth's box."""
    return _psnr([mouth_of(video) for video in videos], [mouth_of(truth) for truth in truths])


def skin_psnr(videos: Sequence[U8], truths: Sequence[U8]) -> float:
    """PSNR in dB of the skin around the mouth: does the face stay this face?"""
    return _psnr([skin_of(video) for video in videos], [skin_of(truth) for truth in truths])


def _psnr(found: Sequence[F32], truths: Sequence[F32]) -> float:
    errors = [
        np.square(video - truth[: len(video)]).mean()
        for video, truth in zip(found, truths, strict=True)
    ]
    return psnr(float(np.mean(errors)), 255.0)


def picture_scores(
    videos: Sequence[U8], sources: Sequence[U8], truths: Sequence[U8], hop: int
) -> dict[str, float]:
    """Of generated videos, and beside them of the source left as it is."""
    detail = [detail_of(truth) for truth in truths]
    sharp = [
        detail_of(video) / max(own, SMALLEST_DETAIL)
        for video, own in zip(videos, detail, strict=True)
    ]
    return {
        "mouth_psnr_db": round(mouth_psnr(videos, truths), 2),
        "mouth_psnr_source_shown_db": round(mouth_psnr(sources, truths), 2),
        "skin_psnr_db": round(skin_psnr(videos, truths), 2),
        "skin_psnr_source_shown_db": round(skin_psnr(sources, truths), 2),
        "sharpness_of_truth": round(float(np.mean(sharp)), 3),
        "boundary_ratio": round(boundary_ratio(videos, hop), 4),
        "boundary_ratio_truth": round(boundary_ratio(truths, hop), 4),
    }
