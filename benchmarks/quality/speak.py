"""Speaks the takes that quality is measured on, and writes them.

    python -m benchmarks.quality.speak        # writes speech.npz anew

Needs espeak-ng and flite; the same programs give the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.quality.material import PATH, TAKE_FRAMES
from engine.media import FRAME_SAMPLES
from training.speech.augment import level_speech
from training.speech.clips import join_utterances
from training.speech.engines import speak
from training.speech.utterance import Delivery, Voice
from training.speech.visemes import mouth_track

# Voices that training holds out (`training.speech.voices`) and sentences of no grammar.
SCRIPTS: Final[Sequence[tuple[Voice, Delivery, tuple[tuple[str, float], ...]]]] = (
    (
        Voice("flite", "slt", "en"),
        Delivery(),
        (
            ("Maybe you wonder how a picture can speak.", 0.5),
            ("People bring big blue boxes, and five wooden forks.", 0.7),
            ("Now I am quiet for a moment.", 0.8),
            ("Thank you, and good bye.", 0.0),
        ),
    ),
    (
        Voice("espeak", "de+m6", "de"),
        Delivery(rate=0.95, pitch=45),
        (
            ("Mein Mund bewegt sich mit jedem Wort, das Sie hören.", 0.4),
            ("Fünf Freunde möchten frische Brötchen mit Butter.", 1.0),
            ("Jetzt bin ich einen Augenblick still.", 0.9),
            ("Vielen Dank, und auf Wiedersehen.", 0.0),
        ),
    ),
)


def write_speeches(path: Path = PATH) -> None:
    """Speaks the takes and writes them.

    Raises:
        SpeechEngineError: espeak-ng or flite is absent.
        ValueError: the lines are longer than a take.
    """
    stored: dict[str, Any] = {}
    for index, (voice, delivery, lines) in enumerate(SCRIPTS):
        spoken = speak([text for text, _ in lines], voice, delivery)
        joined = join_utterances(spoken, [0.5, *(pause for _, pause in lines)])
        missing = TAKE_FRAMES - joined.frames
        if missing < 10:  # the loop's join is silent, with a resting mouth on both sides
            raise ValueError(f"expected at most {TAKE_FRAMES - 10} frames, got {joined.frames}")
        samples = np.clip(level_speech(joined.samples), -1, 1)
        samples = np.pad(samples, (0, missing * FRAME_SAMPLES))
        mouth = mouth_track(joined.gestures, TAKE_FRAMES)
        stored[f"samples_{index}"] = np.round(samples * 32767.0).astype(np.int16)
        stored[f"mouth_{index}"] = mouth.astype(np.float16)
    np.savez_compressed(path, **stored)


if __name__ == "__main__":
    write_speeches()
    sys.stdout.write(f"{PATH}: {PATH.stat().st_size} bytes\n")
