"""A clip on disk: 25 fps H.264, near lossless, and its 16 kHz sound without loss.

FLAC, because AAC begins with a thousand samples that are not the sound's, which players take
away and programs forget to. 4:2:0, because the videos that clips come from hold no more colour.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.audio.stream import AudioStream

from engine.media import F32, FPS, SAMPLE_RATE_HZ, U8
from training.prepare.files import part_of

QUALITY_CRF: Final = "10"


def write_clip(path: Path, crops: U8, samples: F32) -> None:
    """Writes a clip; `path` appears when it is whole.

    The same input gives the same bytes.

    Args:
        crops: RGB [n, R, R, 3].
        samples: 16 kHz [n * 640].

    Raises:
        OSError: it cannot be written.
    """
    part = part_of(path)
    _write(part, crops, samples)
    part.replace(path)


def replace_sound(path: Path, samples: F32) -> None:
    """Gives a clip other sound; its pictures are not encoded again.

    Args:
        samples: 16 kHz [n * 640].

    Raises:
        OSError: it cannot be written.
    """
    part = part_of(path)
    with av.open(str(path)) as source, _opened(part) as container:
        pictures = source.streams.video[0]
        video = container.add_stream_from_template(pictures)
        sound = container.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono")
        for packet in source.demux(pictures):
            if packet.dts is not None:
                packet.stream = video
                container.mux(packet)
        _add_sound(container, sound, samples)
    part.replace(path)


def _write(path: Path, crops: U8, samples: F32) -> None:
    with _opened(path) as container:
        video = container.add_stream("libx264", rate=FPS)
        video.height, video.width = crops.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.time_base = Fraction(1, FPS)
        # How many threads encode changes the bytes.
        video.options = {"crf": QUALITY_CRF, "preset": "medium", "threads": "1"}
        sound = container.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono")
        for index, crop in enumerate(crops):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(crop), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        _add_sound(container, sound, samples)


def _opened(path: Path) -> av.container.OutputContainer:
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    return av.open(str(path), "w", format="mp4", options=options)


def _add_sound(container: av.container.OutputContainer, sound: AudioStream, samples: F32) -> None:
    whole = np.rint(np.clip(samples, -1.0, 1.0) * 32767.0).astype(np.int16)
    audio = av.AudioFrame.from_ndarray(whole[None], format="s16", layout="mono")
    audio.sample_rate = SAMPLE_RATE_HZ
    audio.pts, audio.time_base = 0, Fraction(1, SAMPLE_RATE_HZ)
    container.mux(sound.encode(audio))
    container.mux(sound.encode(None))
