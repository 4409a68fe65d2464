"""Viseme names of a phone, in any engine's phone set.

espeak's IPA is read letter by letter; the other sets are tables
(`training.speech.phone_sets`). A phone may pass through several visemes
(diphthongs, affricates), in order. The names are the rows of
`training.speech.visemes.VISEMES`. A phone that no table has is an error, because
a mouth that ignores a sound is wrong truth.
"""

from __future__ import annotations

from typing import Final

from training.speech.phone_sets import PHONES, STOPS
from training.speech.utterance import PhoneSet

PAUSE: Final = "rest"

_GROUPS: Final[dict[str, str]] = {
    "ah": "aɑɶä",
    "ae": "æ",
    "uh": "ʌɐɜ",
    "schwa": "əɘɵᵊɞɤ",
    "eh": "ɛeᵻ\N{GREEK SMALL LETTER EPSILON}",
    "ih": "ɪɨ",
    "ee": "iɯ",
    "ue": "yʏʉ",
    "oe": "øœ",
    "aw": "ɔɒ",
    "oh": "o",
    "oo": "u",
    "ou": "ʊ",
    "er": "ɚɝ",
    "lips": "pbmɓ",
    "bite": "fvʋɱ",
    "w": "wɥʍ",
    "near": "ɸβ",
    "s": "szɬɮ",
    "sh": "ʃʒʂʐ",
    "xi": "ɕʑç",
    "th": "θð",
    "t": "tdnʈɖɳɗc",
    "l": "lɫɭʎ",
    "r": "ɹɻ",
    "trill": "rɾɽ",
    "j": "jɲʝɟʲ",
    "back": "kɡgŋxɣhɦʔqɢɴχʁʀħʕɰɠ",
}
_IPA: Final[dict[str, str]] = {
    letter: name for name, letters in _GROUPS.items() for letter in letters
}
_SPELLED: Final[dict[str, tuple[str, ...]]] = {
    # espeak prints these Mandarin sounds with plain letters instead of IPA.
    "th": ("t", "back"),
    "ph": ("lips", "back"),
    "kh": ("back",),
    "ts.": ("sh",),
    "ts.h": ("sh", "back"),
    "tsh": ("t", "s"),
    "s.": ("sh",),
    "i.": ("ih",),
    "onɡ": ("oh", "back"),
    # The Czech ř, voiced and voiceless.
    "r̝": ("trill", "sh"),
    "r̝̊": ("trill", "sh"),
    "??": ("back",),
}
# Length, tone, voicing, aspiration and nasality, which move no lip, and espeak's own marks.
_MARKS: Final = frozenset('ːˑʰʱ\u0303\u0329\u032f\u031e\u031d\u030a\u032a0123456789:?-.^"')

# Digits behind a phone: stress and tone.
_TONES: Final[dict[PhoneSet, str]] = {"arpabet": "012", "pinyin": "12345"}


def visemes_of_ipa(symbol: str) -> tuple[str, ...]:
    """Visemes of one espeak phone; marks that move no lip (length, tone) are skipped.

    Empty for the marks of a language switch, such as "(en)", and of bare aspiration.

    Raises:
        KeyError: a letter without a viseme.
    """
    if not symbol:
        return (PAUSE,)
    if symbol.startswith("("):
        return ()
    if symbol in _SPELLED:
        return _SPELLED[symbol]
    names: list[str] = []
    for letter in symbol:
        if letter not in _MARKS and (name := _IPA[letter]) not in names[-1:]:
            names.append(name)
    return tuple(names)


def visemes_of(phone_set: PhoneSet, symbol: str) -> tuple[str, ...]:
    """Visemes of a phone of `phone_set`; "" is a pause.

    Raises:
        KeyError: no such phone.
    """
    if phone_set == "ipa":
        return visemes_of_ipa(symbol)
    if not symbol:
        return (PAUSE,)
    return PHONES[phone_set][symbol.rstrip(_TONES.get(phone_set, ""))]


def is_stop(phone_set: PhoneSet, symbol: str) -> bool:
    """Whether the phone begins with a closed vocal tract, so that silence may precede it."""
    if phone_set == "ipa":
        return symbol[:1] in tuple("pbtdkɡgcqʈɖɟɢ")
    return symbol in STOPS[phone_set]
