"""Speech from flite: English voices that were built from recorded people."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from training.speech.utterance import (
    Delivery,
    Utterance,
    Voice,
    phones_until,
    read_wav,
    run_program,
    scale_time,
)


def missing(voice: Voice) -> str | None:
    """What to install before `voice` can speak, or None."""
    del voice  # all of them are inside the program
    return None if shutil.which("flite") else "package flite"


def speak(texts: Sequence[str], voice: Voice, delivery: Delivery) -> list[Utterance]:
    """`texts` in a flite voice, phones in ARPAbet.

    Raises:
        SpeechEngineError: flite is absent or failed.
    """
    return [_speak_one(text, voice, delivery) for text in texts]


def _speak_one(text: str, voice: Voice, delivery: Delivery) -> Utterance:
    stretch = delivery.vocal_tract / delivery.rate
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        options = ["-voice", voice.name, "--setf", f"duration_stretch={stretch:.3f}"]
        command = ["flite", *options, "-psdur", "-t", text, "-o", str(path)]
        printed = run_program(command).decode()
        samples, rate_hz = read_wav(path)
    ends = []
    for token in printed.split():
        symbol, _, end = token.rpartition(":")
        ends.append(("" if symbol == "pau" else symbol, float(end)))
    spoken = Utterance(samples, phones_until(ends), "arpabet")
    return scale_time(spoken, rate_hz, delivery.vocal_tract)
