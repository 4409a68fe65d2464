"""Speech with phone timings from espeak-ng, flite and festival.

Every engine gives an `Utterance`: 16 kHz samples and the phones that it spoke.
The engines only say when a phone begins; where the lips of a stop close is
read off the signal in `training.speech.visemes`.
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from scipy.signal import resample_poly  # type: ignore[import-untyped]

from engine.media import F32, SAMPLE_RATE_HZ

EngineName = Literal["espeak", "flite", "festival"]
ESPEAK_LIBRARY: Final = "libespeak-ng.so.1"

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: the callback gets the samples inside espeak_Synth
_PHONEME_EVENTS_AS_IPA = 0x1 | 0x2
_EVENT_END, _EVENT_PHONEME = 0, 7
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
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


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class Espeak:
    """espeak-ng through its C library: 130 languages and dozens of voice variants.

    The library keeps its state in globals: one instance a process.

    Raises:
        SpeechEngineError: the library is absent or does not start.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(ESPEAK_LIBRARY)
        except OSError as error:
            raise SpeechEngineError(f"expected {ESPEAK_LIBRARY} (package libespeak-ng1)") from error
        self._rate_hz = int(
            self._library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS_AS_IPA)
        )
        if self._rate_hz <= 0:
            raise SpeechEngineError(f"{ESPEAK_LIBRARY} did not start: {self._rate_hz}")
        self._samples: list[Any] = []
        self._starts: list[tuple[int, str]] = []
        self._callback = _Callback(self._receive)
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(self, wav: Any, count: int, events: Any) -> int:
        if count > 0:
            self._samples.append(np.ctypeslib.as_array(wav, (count,)).copy())
        index = 0
        while events[index].type != _EVENT_END:
            event = events[index]
            if event.type == _EVENT_PHONEME:
                name = bytes(event.id.string).split(b"\0")[0].decode("utf-8", "ignore")
                self._starts.append((int(event.sample), name))
            index += 1
        return 0

    def speak(self, text: str, voice: Voice, delivery: Delivery) -> Utterance:
        """`text` in `voice`.

        Raises:
            SpeechEngineError: no such voice, or no sound came.
        """
        library = self._library
        if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise SpeechEngineError(f"espeak-ng has no voice {voice.name!r}")
        words_per_minute = round(175 * delivery.rate / delivery.vocal_tract)
        for parameter, value in (
            (_RATE, words_per_minute),
            (_PITCH, delivery.pitch),
            (_RANGE, delivery.pitch_range),
        ):
            library.espeak_SetParameter(parameter, value, 0)
        self._samples.clear()
        self._starts.clear()
        data = text.encode()
        library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
        if not self._samples:
            raise SpeechEngineError(f"espeak-ng voice {voice.name!r} gave no sound")
        samples = np.concatenate(self._samples).astype(np.float32) / 32768.0
        edges = [start / self._rate_hz for start, _ in self._starts]
        ends = [*edges[1:], len(samples) / self._rate_hz]
        phones = [
            Phone(name, start, end)
            for (_, name), start, end in zip(self._starts, edges, ends, strict=True)
            if end > start
        ]
        return scale_time(samples, phones, self._rate_hz, delivery.vocal_tract)


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
        printed = _run(["flite", *options, "-psdur", "-t", text, "-o", str(path)])
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


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    except FileNotFoundError as error:
        raise SpeechEngineError(f"expected the program {command[0]} on this machine") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise SpeechEngineError(f"{command[0]} failed: {error}") from error
    return done.stdout
