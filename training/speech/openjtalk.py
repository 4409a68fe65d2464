"""Japanese speech from Open JTalk's voice "Mei" (an HTS voice), through `pyopenjtalk`.

Nothing says when its phones begin. But at the voice's own speed HTS draws the
lengths of a phone's states from the phone's full-context label alone, so that a
label spoken by itself is as long as it is in the sentence. The lengths of all
labels add up to the sentence's, sample for sample.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np

from training.speech.utterance import (
    Delivery,
    SpeechEngineError,
    Utterance,
    Voice,
    phones_until,
    scale_time,
)

_PHONE: Final = re.compile(r"-(\w+)\+")
_PAUSES: Final = ("sil", "pau")
_HALF_TONES: Final = 6.0  # at pitch 0 and 100
_INT16: Final = 32768.0


def missing(voice: Voice) -> str | None:
    """What to install before `voice` can speak, or None."""
    del voice  # there is one
    if importlib.util.find_spec("pyopenjtalk") is None:
        return 'pip install "lipwire[speech]" (pyopenjtalk-plus)'
    return None


def speak(texts: Sequence[str], voice: Voice, delivery: Delivery) -> list[Utterance]:
    """`texts` in the voice Mei; the rate follows the vocal tract, not what is asked.

    Raises:
        SpeechEngineError: pyopenjtalk is absent, or its lengths do not add up.
    """
    if (package := missing(voice)) is not None:
        raise SpeechEngineError(f"expected {package}")
    import pyopenjtalk

    half_tones = (delivery.pitch - 50) / 50 * _HALF_TONES
    spoken = []
    for text in texts:
        labels = pyopenjtalk.extract_fullcontext(text)
        samples, rate_hz = pyopenjtalk.synthesize(labels, half_tone=half_tones)
        lengths = [len(pyopenjtalk.synthesize([label])[0]) for label in labels]
        if sum(lengths) != len(samples):
            raise SpeechEngineError(f"expected {len(samples)} samples, phones last {sum(lengths)}")
        ends = (np.cumsum(lengths) / rate_hz).tolist()
        symbols = [match[1] for label in labels if (match := _PHONE.search(label))]
        phones = phones_until(_said(list(zip(symbols, ends, strict=True))))
        sound = (samples / _INT16).astype(np.float32)
        spoken.append(
            scale_time(Utterance(sound, phones, "japanese"), rate_hz, delivery.vocal_tract)
        )
    return spoken


def _said(ends: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """What the mouth does: the nasal "N" is shaped by what follows, a held stop is one stop."""
    said = []
    for (symbol, end), (following, _) in pairwise([*ends, ("sil", 0.0)]):
        if symbol == "cl" and following not in _PAUSES:
            continue  # the stop that follows begins where it did
        if symbol == "N" and following[:1] in ("m", "b", "p"):
            symbol = "m"
        said.append(("" if symbol in _PAUSES else symbol, end))
    return said
