"""Speech through the codecs of calls, meetings and files, in its old place in time.

Coders delay what they code. Opus and MP3 say by how much, and their decoders
drop it; for AAC and G.722 the delay is fixed and stands in `CODECS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Literal, cast

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from numpy.typing import NDArray
from scipy.signal import resample_poly

from engine.media import F32, SAMPLE_RATE_HZ

_TAIL_FRAMES: Final = 8  # silence behind the speech, so that its last samples leave the coder
_PCM_FRAME_SAMPLES: Final = 1024  # where the coder does not ask for a length


@dataclass(frozen=True, slots=True)
class LossyCodec:
    """A coder and how it is set.

    Attributes:
        encoder, decoder: FFmpeg's names.
        bit_rates: bits a second to draw from; empty where the rate of samples fixes it.
        delay_samples: at `rate_hz`, what the decoder leaves in.
    """

    encoder: str
    decoder: str
    rate_hz: int
    sample_format: Literal["s16", "fltp"]
    bit_rates: tuple[int, ...] = ()
    delay_samples: int = 0


CODECS: Final[dict[str, LossyCodec]] = {
    "opus": LossyCodec("libopus", "libopus", 48_000, "s16", (8_000, 12_000, 16_000, 24_000)),
    "mu-law": LossyCodec("pcm_mulaw", "pcm_mulaw", 8_000, "s16"),
    "a-law": LossyCodec("pcm_alaw", "pcm_alaw", 8_000, "s16"),
    "g722": LossyCodec("g722", "g722", 16_000, "s16", (), 22),
    "mp3": LossyCodec("libmp3lame", "mp3float", 24_000, "fltp", (24_000, 32_000, 48_000)),
    "aac": LossyCodec("aac", "aac", 24_000, "fltp", (24_000, 32_000, 48_000), 1024),
}


def through_codec(samples: F32, codec: LossyCodec, bit_rate: int | None = None) -> F32:
    """`samples` at 16 kHz within +-1, coded and decoded: as many, none of them moved."""
    encoder = _context(codec, "w")
    encoder.format, encoder.time_base = (
        av.AudioFormat(codec.sample_format),
        Fraction(1, codec.rate_hz),
    )
    if bit_rate is not None:
        encoder.bit_rate = bit_rate
    encoder.open()
    decoder = _context(codec, "r")
    decoder.extradata = encoder.extradata
    packets = [
        packet for frame in _frames(samples, codec, encoder) for packet in encoder.encode(frame)
    ]
    packets += encoder.encode(None)
    heard: list[F32] = []
    for packet in (*packets, None):
        heard += [_mono(frame.to_ndarray()) for frame in decoder.decode(packet)]
    decoded = np.concatenate(heard)[codec.delay_samples :]
    back = Fraction(SAMPLE_RATE_HZ, codec.rate_hz)
    played = resample_poly(decoded, back.numerator, back.denominator)[: len(samples)]
    return np.asarray(np.pad(played, (0, len(samples) - len(played))), np.float32)


def _context(codec: LossyCodec, mode: Literal["r", "w"]) -> AudioCodecContext:
    name = codec.encoder if mode == "w" else codec.decoder
    context = cast(AudioCodecContext, av.CodecContext.create(name, mode))
    context.sample_rate, context.layout = codec.rate_hz, av.AudioLayout("mono")
    return context


def _frames(samples: F32, codec: LossyCodec, encoder: AudioCodecContext) -> Iterator[av.AudioFrame]:
    to = Fraction(codec.rate_hz, SAMPLE_RATE_HZ)
    sound = resample_poly(samples, to.numerator, to.denominator)
    size = encoder.frame_size or _PCM_FRAME_SAMPLES
    whole = (-(-len(sound) // size) + _TAIL_FRAMES) * size
    sound = np.clip(np.pad(sound, (0, whole - len(sound))), -1.0, 1.0)
    data: NDArray[np.int16] | F32 = sound.astype(np.float32)
    if codec.sample_format == "s16":
        data = np.round(sound * 32767.0).astype(np.int16)
    for first in range(0, whole, size):
        part = data[None, first : first + size]
        frame = av.AudioFrame.from_ndarray(part, format=codec.sample_format, layout="mono")
        frame.sample_rate, frame.pts = codec.rate_hz, first
        yield frame


def _mono(planes: NDArray[Any]) -> F32:
    scale = 1 / 32768.0 if planes.dtype == np.int16 else 1.0
    return np.asarray(planes.reshape(-1) * scale, np.float32)
