"""Speech with phone timings from espeak-ng, flite and festival.

Every engine gives an `Utterance`: 16 kHz samples and the phones that it spoke.
The engines only say when a phone begins; where the lips of a stop close is
read off the signal in `training.speech.visemes`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.signal import resample_poly

from engine.media import F32, SAMPLE_RATE_HZ
from training.speech import espeak_worker

EngineName = Literal["espeak", "flite", "festival"]

_ESPEAK_WORDS_PER_MINUTE = 175
_LARGEST_RATIO_TERM = 400  # bounds the length of the resampling filter


class SpeechEngineError(RuntimeError):
    """A synthesiser is absent or refused to speak."""


@dataclass(frozen=True, slots=True)
class Phone:
    """One phone of an utterance.

    Attributes:
        symbol: the engine's mnemonic (IPA from espeak, ARPAbet from the others); "" is a pause.
        start_s, end_s: seconds since the utterance's first sample.
    """

    symbol: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """float32 samples at 16 kHz within +-1 and the phones in them, in order."""

    samples: F32
    phones: tuple[Phone, ...]


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
    """How it is spoken.

    Attributes:
        rate: 1 is the voice's own speed, 2 twice as fast.
        pitch: espeak's 0..100, 50 is the voice's own.
        pitch_range: espeak's 0..100, 0 is a monotone.
        vocal_tract: pitch and formants times this, by resampling; the rate stays as asked.
    """

    rate: float = 1.0
    pitch: int = 50
    pitch_range: int = 50
    vocal_tract: float = 1.0


def scale_time(samples: F32, phones: Sequence[Phone], rate_hz: int, ratio: float) -> Utterance:
    """`samples` of `rate_hz` played `ratio` times as fast, at 16 kHz, with its phones."""
    step = Fraction(SAMPLE_RATE_HZ / (rate_hz * ratio)).limit_denominator(_LARGEST_RATIO_TERM)
    played = resample_poly(samples, step.numerator, step.denominator).astype(np.float32)
    shrink = float(step) * rate_hz / SAMPLE_RATE_HZ
    moved = tuple(Phone(p.symbol, p.start_s * shrink, p.end_s * shrink) for p in phones)
    return Utterance(np.clip(played, -1.0, 1.0), moved)


def speak_espeak(texts: Sequence[str], voice: Voice, delivery: Delivery) -> list[Utterance]:
    """`texts` in an espeak-ng voice: over a hundred languages, dozens of variants.

    Raises:
        SpeechEngineError: espeak-ng is absent, has no such voice, or gave no sound.
    """
    request = {
        "voice": voice.name,
        "rate_wpm": round(_ESPEAK_WORDS_PER_MINUTE * delivery.rate / delivery.vocal_tract),
        "pitch": delivery.pitch,
        "pitch_range": delivery.pitch_range,
        "texts": list(texts),
    }
    program = [sys.executable, str(Path(espeak_worker.__file__))]
    line, _, sound = _run(program, json.dumps(request).encode()).partition(b"\n")
    answer = json.loads(line)
    if "error" in answer:
        raise SpeechEngineError(answer["error"])
    samples = np.frombuffer(sound, np.int16).astype(np.float32) / 32768.0
    rate_hz: int = answer["rate_hz"]
    utterances = []
    first = 0
    for text, spoken in zip(texts, answer["spoken"], strict=True):
        if spoken["count"] == 0:
            raise SpeechEngineError(f"espeak-ng voice {voice.name!r} gave no sound for {text!r}")
        part = samples[first : first + spoken["count"]]
        first += spoken["count"]
        starts = [start / rate_hz for start, _ in spoken["phones"]]
        ends = [*starts[1:], len(part) / rate_hz]
        phones = [
            Phone(name, start, end)
            for (_, name), start, end in zip(spoken["phones"], starts, ends, strict=True)
            if end > start
        ]
        utterances.append(scale_time(part, phones, rate_hz, delivery.vocal_tract))
    return utterances


def read_wav(path: Path) -> tuple[F32, int]:
    """Mono samples within +-1 and the rate of a 16-bit wav file."""
    with wave.open(str(path)) as file:
        data = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        return data.astype(np.float32) / 32768.0, file.getframerate()


def speak_flite(text: str, voice: Voice, delivery: Delivery) -> Utterance:
    """`text` in a flite voice, which was built from a recorded person (English).

    Raises:
        SpeechEngineError: flite is absent or failed.
    """
    stretch = delivery.vocal_tract / delivery.rate
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        options = ["-voice", voice.name, "--setf", f"duration_stretch={stretch:.3f}"]
        printed = _run(["flite", *options, "-psdur", "-t", text, "-o", str(path)]).decode()
        samples, rate_hz = read_wav(path)
    phones = []
    start = 0.0
    for token in printed.split():
        symbol, _, end = token.rpartition(":")
        phones.append(Phone("" if symbol == "pau" else symbol, start, float(end)))
        start = float(end)
    return scale_time(samples, phones, rate_hz, delivery.vocal_tract)


def speak_festival(texts: Sequence[str], voice: Voice, delivery: Delivery) -> list[Utterance]:
    """`texts` in a festival voice, in one run of the program, which is slow to start.

    Raises:
        SpeechEngineError: festival is absent or failed.
    """
    stretch = delivery.vocal_tract / delivery.rate
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "speak.scm"
        lines = [f"(voice_{voice.name})", f"(Parameter.set 'Duration_Stretch {stretch:.3f})"]
        for index, text in enumerate(texts):
            plain = text.replace("\\", "").replace('"', "")
            lines += [
                f'(set! u (utt.synth (Utterance Text "{plain}")))',
                f'(utt.save.wave u "{folder}/{index}.wav" \'riff)',
                f'(utt.save.segs u "{folder}/{index}.seg")',
            ]
        script.write_text("\n".join(lines) + "\n", encoding="utf-8")
        _run(["festival", "-b", str(script)])
        spoken = []
        for index in range(len(texts)):
            samples, rate_hz = read_wav(Path(folder) / f"{index}.wav")
            segments = (Path(folder) / f"{index}.seg").read_text(encoding="utf-8")
            phones = _festival_phones(segments)
            spoken.append(scale_time(samples, phones, rate_hz, delivery.vocal_tract))
    return spoken


def _festival_phones(segments: str) -> list[Phone]:
    phones: list[Phone] = []
    start = 0.0
    for line in segments.split("#", 1)[1].splitlines():
        fields = line.split()
        if len(fields) == 3:
            symbol = "" if fields[2] in ("pau", "h#", "#") else fields[2]
            phones.append(Phone(symbol, start, float(fields[0])))
            start = float(fields[0])
    return phones


def _run(command: list[str], given: bytes = b"") -> bytes:
    try:
        done = subprocess.run(command, input=given, capture_output=True, check=True, timeout=120)
    except FileNotFoundError as error:
        raise SpeechEngineError(f"expected the program {command[0]} on this machine") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SpeechEngineError(f"{command[0]} failed: {error}") from error
    return done.stdout
