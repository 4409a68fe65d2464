"""Which voices speak in which split of the corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from training.speech.engines import Voice
from training.speech.sentences import LANGUAGES

Split = Literal["train", "sentences", "voices", "language", "engine"]
SPLITS: Final[tuple[Split, ...]] = ("train", "sentences", "voices", "language", "engine")
HELD_OUT_LANGUAGE: Final = "it"

_ESPEAK_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "en": ("en-us", "gmw/en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbcwmd", "en-us-nyc"),
    "de": ("de",),
    "es": ("es", "es-419"),
    "fr": ("roa/fr", "roa/fr-CH"),
    "pt": ("pt", "pt-br"),
    "pl": ("pl",),
    "nl": ("nl",),
    "sv": ("sv",),
    "id": ("id",),
    "it": ("it",),
    "zh": ("cmn-latn-pinyin",),
}
# Languages that only babble: sounds that the others lack.
_BABBLERS: Final = ("fi", "hu", "ro", "cs", "hr", "tr", "sw", "eo", "la", "lt", "da", "ms", "cy")
_NAMED_VARIANTS: Final = (
    "Andrea Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Marco Mario Michael Mike "
    "adam anika antonio aunty belinda benjamin caleb david ed edward edward2 grandma "
    "grandpa gustave iven iven3 john kaukovalta linda marcelo max michel miguel norbert "
    "paul pedro quincy rob robert sandro steph steph2 travis victor zac"
)
_VARIANTS: Final = (
    "",
    *(f"+m{k}" for k in (1, 2, 3, 4, 5, 7, 8)),
    *(f"+f{k}" for k in (1, 2, 3, 5)),
    *(f"+klatt{k}" for k in ("", 2, 4, 5)),
    *(f"+{name}" for name in _NAMED_VARIANTS.split()),
)
_HELD_OUT_VARIANTS: Final = ("+m6", "+f4", "+klatt3", "+Alicia", "+boris", "+shelby", "+pablo")
_FLITE: Final = ("rms", "awb", "kal16", "kal")
_HELD_OUT_FLITE: Final = "slt"
FESTIVAL: Final = (
    Voice("festival", "cmu_us_slt_arctic_hts", "en"),
    Voice("festival", "kal_diphone", "en"),
)
_FLITE_SHARE: Final = 0.45
_BABBLER_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice, and whether it only strings syllables together."""

    voice: Voice
    babbles: bool = False


def draw_speaker(split: Split, rng: np.random.Generator) -> Speaker:
    """A speaker of `split`: held-out voices and languages never speak in another split."""
    if split == "engine":
        return Speaker(FESTIVAL[rng.integers(len(FESTIVAL))])
    if split == "voices":
        if rng.random() < 0.5:
            return Speaker(Voice("flite", _HELD_OUT_FLITE, "en"))
        return Speaker(_espeak(_language(rng), str(rng.choice(_HELD_OUT_VARIANTS)), rng))
    if split == "language":
        return Speaker(_espeak(HELD_OUT_LANGUAGE, str(rng.choice(_VARIANTS)), rng))
    draw = rng.random()
    if draw < _FLITE_SHARE:
        name = str(rng.choice(_FLITE, p=(0.38, 0.38, 0.14, 0.1)))
        return Speaker(Voice("flite", name, "en"))
    variant = str(rng.choice(_VARIANTS))
    if draw > 1.0 - _BABBLER_SHARE and split == "train":
        language = str(rng.choice(_BABBLERS))
        return Speaker(Voice("espeak", language + variant, language), babbles=True)
    return Speaker(_espeak(_language(rng), variant, rng))


def _language(rng: np.random.Generator) -> str:
    spoken = [language for language in LANGUAGES if language != HELD_OUT_LANGUAGE]
    weights = np.array([3.0 if language in ("en", "zh", "de") else 1.0 for language in spoken])
    return str(rng.choice(spoken, p=weights / weights.sum()))


def _espeak(language: str, variant: str, rng: np.random.Generator) -> Voice:
    return Voice("espeak", str(rng.choice(_ESPEAK_NAMES[language])) + variant, language)
