"""Face clips as data preparation leaves them: `clips.jsonl`, and a video with its sound each.

A bad line or file is never an error of the run: it is reported once, with its reason, and
skipped.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

import av
import numpy as np

from engine.errors import MediaError
from engine.media import F32, FPS, SAMPLE_RATE_HZ, U8

log = logging.getLogger(__name__)

LISTING = "clips.jsonl"
Split = Literal["train", "validation"]


@dataclass(frozen=True, slots=True)
class ClipEntry:
    """One line of the listing.

    Attributes:
        path: of the video.
        frames: as the listing counts them.
    """

    path: Path
    frames: int
    split: Split


@dataclass(frozen=True, slots=True)
class Clip:
    """A video in memory.

    Attributes:
        pictures: uint8 RGB [n, R, R, 3] at 25 fps.
        samples: float32 at 16 kHz, from the first picture on.
    """

    pictures: U8
    samples: F32


class SkipReport:
    """What was skipped and why, a line each in a file; every name once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: set[str] = set()
        if path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            self._known = {line.partition("\t")[0] for line in lines}

    def add(self, name: str, reason: str) -> None:
        if name in self._known:
            return
        self._known.add(name)
        sentence = " ".join(reason.split())
        log.warning("skipped %s: %s", name, sentence)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{name}\t{sentence}\n")


def read_listing(folder: Path, least_frames: int, report: SkipReport) -> list[ClipEntry]:
    """The clips of a prepared folder, in its order.

    Args:
        least_frames: shorter clips are reported.

    Raises:
        MediaError: there is no listing.
    """
    path = folder / LISTING
    if not path.is_file():
        raise MediaError(
            f"expected {LISTING} in {folder}, found none; `python -m training.prepare` makes it"
        )
    entries = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entries.append(_entry(folder, json.loads(line), least_frames))
        except (ValueError, MediaError) as error:
            report.add(f"{LISTING}:{number}", str(error))
    return entries


def _entry(folder: Path, data: Any, least_frames: int) -> ClipEntry:
    if not isinstance(data, dict):
        raise MediaError(f"expected an object, got {type(data).__name__}")
    file, frames, split = data.get("file"), data.get("frames"), data.get("split")
    if not isinstance(file, str) or not isinstance(frames, int) or split not in get_args(Split):
        raise MediaError(f"expected file, frames and a split of {get_args(Split)}, got {data}")
    offset = data.get("offset_frames", 0)
    if offset != 0:
        raise MediaError(f"{file}: expected sound in time, got an offset of {offset} frames")
    if frames < least_frames:
        raise MediaError(f"{file}: expected at least {least_frames} frames, got {frames}")
    return ClipEntry(folder / file, frames, "train" if split == "train" else "validation")


def read_clip(path: Path, resolution: int) -> Clip:
    """A clip's pictures and sound.

    Raises:
        MediaError: it cannot be decoded, or is not what preparation makes.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video or not container.streams.audio:
                raise MediaError(f"{path.name}: expected a picture and a sound track")
            rate = container.streams.video[0].average_rate
            if rate != Fraction(FPS):
                raise MediaError(f"{path.name}: expected {FPS} fps, got {rate}")
            pictures, chunks, start = _decode(container)
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"{path.name}: cannot be decoded, {error}") from error
    if not pictures or not chunks:
        raise MediaError(f"{path.name}: expected pictures and sound, found none")
    if pictures[0].shape != (resolution, resolution, 3):
        height, width, _ = pictures[0].shape
        raise MediaError(f"{path.name}: expected {resolution} px square, got {width} x {height}")
    samples = np.concatenate(chunks)
    samples = np.pad(samples, (start, 0)) if start > 0 else samples[-start:]
    return Clip(np.stack(pictures), samples)


def _decode(container: Any) -> tuple[list[U8], list[F32], int]:
    """Pictures, sound in pieces, and the sample at which the sound begins."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE_HZ)
    pictures: list[U8] = []
    chunks: list[F32] = []
    start: int | None = None
    for frame in container.decode(video=0, audio=0):
        if isinstance(frame, av.VideoFrame):
            pictures.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
            continue
        if start is None:
            start = round(float(frame.time or 0.0) * SAMPLE_RATE_HZ)
        chunks += _samples(resampler.resample(frame))
    chunks += _samples(resampler.resample(None))
    return pictures, chunks, start or 0


def _samples(frames: Iterable[av.AudioFrame]) -> list[F32]:
    return [frame.to_ndarray().reshape(-1).astype(np.float32) for frame in frames]
