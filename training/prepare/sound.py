"""A video's sound at 16 kHz, by its time stamps: sample k lies k / 16000 s after the origin."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np

from engine.errors import MediaError
from engine.gate import SpeechActivity
from engine.media import F32, FRAME_SAMPLES, SAMPLE_RATE_HZ
from training.prepare.check import reason_of

# Stamps of some containers are whole milliseconds: sound that is off by less is continuous.
_JITTER_S: Final = Fraction(1, 100)


def load_sound(path: Path, origin: Fraction) -> F32:
    """float32 [n], 16 kHz, all channels mixed.

    Where stamps say that sound is missing there is silence, and what they say was there already
    is dropped. Sound before the origin is dropped, too.

    Raises:
        MediaError: sound cannot be decoded, or changes its rate.
    """
    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            return _resampled(_placed(container.decode(stream), origin))
    except av.FFmpegError as error:
        raise MediaError(f"unreadable: {reason_of(error)} in the sound") from error


def speaking_share(samples: F32) -> float:
    """Share of the frames in `samples` that lie in or near something that is not silence."""
    frames = len(samples) // FRAME_SAMPLES
    activity = SpeechActivity()
    activity.push(samples)
    return sum(activity.speaking(frame) for frame in range(frames)) / max(frames, 1)


def _placed(frames: Iterator[av.AudioFrame], origin: Fraction) -> Iterator[tuple[int, F32]]:
    """(rate, samples) without gaps or overlaps, from the origin on."""
    mono: av.AudioResampler | None = None
    rate, position, begun = 0, 0, False
    for frame in frames:
        if mono is None:
            rate = frame.sample_rate
            mono = av.AudioResampler(format="fltp", layout="mono", rate=rate)
        if frame.sample_rate != rate:
            raise MediaError(f"changes its sound's rate: {rate} to {frame.sample_rate} Hz")
        place = position
        if frame.pts is not None and frame.time_base is not None:
            place = round((frame.pts * frame.time_base - origin) * rate)
        frame.pts = None
        parts = [np.asarray(part.to_ndarray(), np.float32)[0] for part in mono.resample(frame)]
        samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
        missing = place - position
        if begun and abs(missing) <= _JITTER_S * rate:
            missing = 0
        begun = True
        if missing > 0:
            yield rate, np.zeros(missing, np.float32)
        samples = samples[max(-missing, 0) :]
        yield rate, samples
        position += max(missing, 0) + len(samples)


def _resampled(pieces: Iterator[tuple[int, F32]]) -> F32:
    resampler: av.AudioResampler | None = None
    taken: list[F32] = []

    def take(frame: av.AudioFrame | None) -> None:
        assert resampler is not None
        for part in resampler.resample(frame):
            taken.append(np.asarray(part.to_ndarray(), np.float32)[0])

    count = Fraction(0)
    for rate, samples in pieces:
        if len(samples) == 0:
            continue
        count += Fraction(len(samples), rate)
        if resampler is None:
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=SAMPLE_RATE_HZ)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        take(frame)
    if resampler is None:
        return np.zeros(0, np.float32)
    take(None)
    whole = np.concatenate(taken)[: int(count * SAMPLE_RATE_HZ)]
    return np.asarray(np.clip(whole, -1.0, 1.0), np.float32)
