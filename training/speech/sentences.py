"""Sentences of our own in nineteen languages, from word lists, without end.

A sentence takes one entry of every column of its language's file in `grammar`,
where "/" parts the columns and "|" the entries. Babble strings syllables
together instead, so that rare sounds and clusters are heard too. Whether a
sentence is held out depends on its text alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

HELD_OUT_ONE_IN: Final = 12


def _read_grammars() -> dict[str, tuple[tuple[str, ...], ...]]:
    grammars = {}
    for path in sorted((Path(__file__).parent / "grammar").glob("*.txt")):
        columns = path.read_text(encoding="utf-8").replace("\n", "").split("/")
        grammars[path.stem] = tuple(tuple(column.split("|")) for column in columns)
    return grammars


_GRAMMARS: Final = _read_grammars()
LANGUAGES: Final = tuple(_GRAMMARS)


@dataclass(frozen=True, slots=True)
class _Syllables:
    """What a syllable may begin with, hold and end with; blanks part the entries.

    Without nuclei the onsets are whole syllables.
    """

    onsets: str
    nuclei: str
    codas: tuple[str, ...] = ("",)


_LATIN: Final = _Syllables(
    "p b m f v w t d n s z l r k g j h sp st br pl fr tr bl mp kr gl sl fl sm kw pr dr",
    "a e i o u a e i o u ai au oi eu",
    ("", "", "", "n", "m", "s", "l", "r", "p", "t", "b", "f", "st", "mp"),
)
_DEVANAGARI: Final = _Syllables(
    "प ब म फ व त द न स ल र क ग ज ह च श य ट भ", "\u093e \u093f \u0940 \u0941 \u0942 \u0947 \u094b"
)
_SCRIPTS: Final[dict[str, _Syllables]] = {
    "ru": _Syllables(
        "п б м ф в т д н с з л р к г ж ш х ч пр бр ст пл кр",
        "а о у э и ы е я ю а о у",
        ("", "", "", "н", "м", "с", "л", "р", "п", "т", "ф"),
    ),
    "hi": _DEVANAGARI,
    "mr": _DEVANAGARI,
    "te": _Syllables(
        "ప బ మ వ త ద న స ల ర క గ జ హ చ శ య భ", "\u0c3e \u0c3f \u0c40 \u0c41 \u0c42 \u0c46 \u0c4b"
    ),
    "ja": _Syllables(
        "ま ば ぱ わ な た さ か ら は や も ぼ ぽ の と そ こ ろ ほ よ む ぶ ぷ ふ う く る す つ "
        "み び ぴ に ち し き り ひ い め べ ぺ ね て せ け れ え びゃ みょ しゅ きゅ りょ",
        "",
        ("", "", "", "ん", "っ", "う"),
    ),
}
_PINYIN_ONSETS: Final = "b p m f d t n l g k h zh ch sh r z c s"
_PINYIN_RHYMES: Final = "a ai ao an ang e ou en u uo ui un"


def sentence(language: str, rng: np.random.Generator) -> str:
    """One sentence of `language`.

    Raises:
        KeyError: a language without a grammar.
    """
    return " ".join(str(rng.choice(column)) for column in _GRAMMARS[language])


def babble(language: str, rng: np.random.Generator) -> str:
    """Four to nine words that do not exist but can be said in `language`."""
    words = []
    for _ in range(rng.integers(4, 10)):
        syllables = range(rng.integers(1, 4))
        if language == "zh":
            words.append("".join(_pinyin_syllable(rng) for _ in syllables))
        else:
            script = _SCRIPTS.get(language, _LATIN)
            words.append("".join(_syllable(script, rng) for _ in syllables))
    return " ".join(words)


def is_held_out(text: str) -> bool:
    """Whether this text is kept from training, by a hash of it."""
    return hashlib.sha256(text.encode()).digest()[0] % HELD_OUT_ONE_IN == 0


def _syllable(script: _Syllables, rng: np.random.Generator) -> str:
    onset = rng.choice(script.onsets.split())
    nucleus = rng.choice(script.nuclei.split() or [""])
    return f"{onset}{nucleus}{rng.choice(script.codas)}"


def _pinyin_syllable(rng: np.random.Generator) -> str:
    onset = str(rng.choice(_PINYIN_ONSETS.split()))
    rhyme = str(rng.choice(_PINYIN_RHYMES.split()))
    if onset in ("b", "p", "m", "f") and rhyme in ("e", "uo", "ui", "un", "ou"):
        rhyme = "o" if rhyme != "un" else "en"
    return f"{onset}{rhyme}{rng.integers(1, 5)}"
