"""What a video file holds, and whether it can be used at all.

Only packets are read, which costs no decoding: a file of an hour takes a second. What is broken
inside of pictures or sound shows later, when they are decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np

from engine.errors import MediaError
from engine.media import FPS

LOWEST_RATE: Final = 20.0  # pictures a second; of fewer, too many frames at 25 would be repeats
_UNEVEN: Final = 0.2  # of the median step: a picture that comes so much earlier or later is off
_UNEVEN_SHARE: Final = 0.01  # of pictures that may be off before the rate is called variable
_BREAKS_OFF_S: Final = 1.0  # that a file may end before its header says


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A video that can be used.

    Attributes:
        origin: seconds of the first picture by the file's clock: frame 0 and sample 0 of all
            that follows.
        seconds: from there to where pictures or sound end first.
        picture_seconds: from there to where the pictures end.
        rate: pictures a second, on average; variable: they come unevenly.
        rotation: degrees that pictures are turned when shown, counter-clockwise.
        sound_rate_hz, channels: of the sound.
    """

    origin: Fraction
    seconds: float
    picture_seconds: float
    width: int
    height: int
    rate: float
    variable: bool
    rotation: int
    sound_rate_hz: int
    channels: int

    @property
    def frames(self) -> int:
        """Whole frames at 25 a second."""
        return int(self.seconds * FPS + 1e-6)

    def remarks(self) -> list[str]:
        """What is unusual about the file but taken care of."""
        remarks = []
        if self.rotation:
            remarks.append(f"rotated: turned by {self.rotation} degrees")
        if self.variable:
            remarks.append(f"variable frame rate: {self.rate:.1f} pictures a second on average")
        return remarks


def check_source(path: Path, min_seconds: float) -> SourceInfo:
    """The file's facts.

    Args:
        min_seconds: of pictures with sound.

    Raises:
        MediaError: it cannot be read, lacks pictures or sound, is too short or breaks off.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise MediaError("no pictures: expected a video")
            if not container.streams.audio:
                raise MediaError("no sound: expected a video with speech")
            return _facts(container, min_seconds)
    except (av.FFmpegError, OSError) as error:
        raise MediaError(f"unreadable: {reason_of(error)}") from error


def declared_seconds(path: Path) -> float:
    """Length by the file's own word; 0.0 where it says nothing or cannot be opened."""
    try:
        with av.open(str(path)) as container:
            return (container.duration or 0) / av.time_base
    except (av.FFmpegError, OSError):
        return 0.0


def reason_of(error: BaseException) -> str:
    """An error's own words, without the file's name."""
    return getattr(error, "strerror", None) or str(error)


def _facts(container: av.container.InputContainer, min_seconds: float) -> SourceInfo:
    video, audio = container.streams.video[0], container.streams.audio[0]
    assert video.time_base is not None and audio.time_base is not None
    declared = (container.duration or 0) / av.time_base
    times: list[Fraction] = []
    sound_end = Fraction(0)
    for packet in container.demux(video, audio):
        if packet.pts is None:
            continue
        if packet.stream is video:
            times.append(packet.pts * video.time_base)
        else:
            end = (packet.pts + (packet.duration or 0)) * audio.time_base
            sound_end = max(sound_end, end)
    if len(times) < 2:
        raise MediaError(f"too short: {len(times)} pictures")
    times.sort()
    steps = np.diff(np.array([float(time) for time in times]))
    median = max(float(np.median(steps)), 1e-3)
    shown = float(times[-1] - times[0]) + median
    there = max(shown, float(sound_end - times[0]))
    if there < declared - _BREAKS_OFF_S:
        raise MediaError(f"breaks off: after {there:.1f} of {declared:.1f} s")
    rate = (len(times) - 1) / max(float(times[-1] - times[0]), 1e-3)
    if rate < LOWEST_RATE:
        raise MediaError(f"too few pictures: {rate:.1f} a second, expected {LOWEST_RATE:.0f}")
    container.seek(0)
    first = next(container.decode(video), None)
    if first is None or first.pts is None:
        raise MediaError("unreadable: expected pictures, none could be decoded")
    origin = first.pts * video.time_base
    seconds = min(shown, float(sound_end - origin))
    if seconds < min_seconds:
        raise MediaError(
            f"too short: {max(seconds, 0.0):.1f} s of pictures with sound, "
            f"expected {min_seconds:.1f}"
        )
    uneven = float((np.abs(steps - median) > _UNEVEN * median).mean())
    return SourceInfo(
        origin=origin,
        seconds=seconds,
        picture_seconds=shown,
        width=first.width,
        height=first.height,
        rate=rate,
        variable=uneven > _UNEVEN_SHARE,
        rotation=int(first.rotation) % 360,
        sound_rate_hz=audio.codec_context.sample_rate,
        channels=audio.codec_context.channels,
    )
