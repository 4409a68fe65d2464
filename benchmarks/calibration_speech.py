"""Speaks the sound that 8-bit exports are calibrated on, and writes it.

    python -m benchmarks.calibration_speech        # writes export/f8/speech.npz anew

Other voices, languages and sentences than those of `benchmarks.quality`, which judges the exports.
Needs espeak-ng and flite; the same programs give the same bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from engine.media import FRAME_SAMPLES
from export.f8.sources import SPEECH_PATH
from training.speech.augment import level_speech
from training.speech.clips import join_utterances
from training.speech.engines import speak
from training.speech.utterance import Delivery, Voice

SCRIPTS: Final[Sequence[tuple[Voice, tuple[str, ...]]]] = (
    (
        Voice("flite", "awb", "en"),
        ("Warm bread, milk and butter, please.", "Who would have thought so?"),
    ),
    (
        Voice("espeak", "fr", "fr"),
        ("Bonjour, je voudrais deux billets.", "Merci beaucoup, au revoir."),
    ),
)


def write_speech(path: Path = SPEECH_PATH) -> None:
    """Speaks the scripts, one after the other, and writes them as 16-bit samples at 16 kHz.

    Raises:
        SpeechEngineError: espeak-ng or flite is absent.
    """
    parts = []
    for voice, lines in SCRIPTS:
        spoken = speak(list(lines), voice, Delivery())
        joined = join_utterances(spoken, [0.1, *([0.2] * len(lines))])
        parts.append(np.clip(level_speech(joined.samples), -1, 1))
    samples = np.concatenate(parts)
    whole = len(samples) // FRAME_SAMPLES * FRAME_SAMPLES
    np.savez_compressed(path, samples=np.round(samples[:whole] * 32767.0).astype(np.int16))


if __name__ == "__main__":
    write_speech()
    sys.stdout.write(f"{SPEECH_PATH}: {SPEECH_PATH.stat().st_size} bytes\n")
