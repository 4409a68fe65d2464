"""Speech of several voices, levels and rooms in one recording, the same every time.

Needs the programs espeak-ng and flite.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.media import F32, SAMPLE_RATE_HZ
from training.speech.augment import level_speech, noise, reverberate
from training.speech.engines import speak
from training.speech.sentences import sentence
from training.speech.utterance import Delivery, Voice

# Voice and level in dB against the usual -23 dBFS.
SPEAKERS: Final = (
    (Voice("flite", "rms", "en"), 0.0),
    (Voice("espeak", "en-us+f2", "en"), -6.0),
    (Voice("flite", "slt", "en"), 0.0),
    (Voice("espeak", "de+m3", "de"), 6.0),
    (Voice("espeak", "cmn-latn-pinyin+f1", "zh"), -14.0),
    (Voice("flite", "awb", "en"), -3.0),
    (Voice("espeak", "es", "es"), 0.0),
    (Voice("flite", "kal16", "en"), -20.0),
)


def speech_in_rooms(seconds: int, seed: int = 5) -> F32:
    """float32 [seconds * 16000]: sentences with pauses of 0.2 to 1.2 s of digital silence.

    Every third sentence is spoken in a room.

    Raises:
        SpeechEngineError: espeak-ng or flite is absent.
    """
    rng = np.random.default_rng(seed)
    wanted = seconds * SAMPLE_RATE_HZ
    parts: list[F32] = [np.zeros(wanted // 100, np.float32)]
    turn = 0
    while sum(map(len, parts)) < wanted:
        voice, level_db = SPEAKERS[turn % len(SPEAKERS)]
        text = sentence(voice.language, rng)
        (spoken,) = speak([text], voice, Delivery(rate=0.9 + 0.1 * (turn % 3)))
        samples = level_speech(spoken.samples) * np.float32(10 ** (level_db / 20))
        if turn % 3 == 1:
            samples = reverberate(samples, 0.3, 6.0, rng)
        pause = int(rng.uniform(0.2, 1.2) * SAMPLE_RATE_HZ)
        parts += [samples, np.zeros(pause, np.float32)]
        turn += 1
    return np.concatenate(parts)[:wanted]


def with_noise(samples: F32, level_db: float, seed: int = 6) -> F32:
    """`samples` over pink noise of that level in dBFS."""
    rng = np.random.default_rng(seed)
    return samples + noise(len(samples), "pink", rng) * np.float32(10 ** (level_db / 20))
