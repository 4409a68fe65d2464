"""Speech from espeak-ng: over a hundred languages, dozens of variants, formants and no person."""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.speech import espeak_worker
from training.speech.utterance import (
    Delivery,
    Phone,
    SpeechEngineError,
    Utterance,
    Voice,
    run_program,
    scale_time,
)

_WORDS_PER_MINUTE = 175


def missing(voice: Voice) -> str | None:
    """What to install before `voice` can speak, or None."""
    del voice  # all of them come with the library
    try:
        ctypes.CDLL(espeak_worker.ESPEAK_LIBRARY)
    except OSError:
        return "package espeak-ng"
    return None


def speak(texts: Sequence[str], voice: Voice, delivery: Delivery) -> list[Utterance]:
    """`texts` in an espeak-ng voice, phones in IPA.

    Raises:
        SpeechEngineError: espeak-ng is absent, has no such voice, or gave no sound.
    """
    request = {
        "voice": voice.name,
        "rate_wpm": round(_WORDS_PER_MINUTE * delivery.rate / delivery.vocal_tract),
        "pitch": delivery.pitch,
        "pitch_range": delivery.pitch_range,
        "texts": list(texts),
    }
    program = [sys.executable, str(Path(espeak_worker.__file__))]
    line, _, sound = run_program(program, json.dumps(request).encode()).partition(b"\n")
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
        phones = tuple(
            Phone(name, start, end)
            for (_, name), start, end in zip(spoken["phones"], starts, ends, strict=True)
            if end > start
        )
        whole = Utterance(part, phones, "ipa")
        utterances.append(scale_time(whole, rate_hz, delivery.vocal_tract))
    return utterances
