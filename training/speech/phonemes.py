"""Viseme names of a phone: from espeak's IPA and from the ARPAbet of flite and festival.

A phone may pass through several visemes (diphthongs, affricates), in order.
The names are the rows of `training.speech.visemes.VISEMES`.
"""

from __future__ import annotations

from typing import Final

PAUSE: Final = "rest"

_GROUPS: Final[dict[str, str]] = {
    "ah": "aɑɶ",
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
    "w": "wɥʍɸβ",
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
}

_ARPABET: Final[dict[str, tuple[str, ...]]] = {
    "aa": ("ah",),
    "ae": ("ae",),
    "ah": ("uh",),
    "ao": ("aw",),
    "aw": ("ah", "ou"),
    "ax": ("schwa",),
    "axr": ("er",),
    "ay": ("ah", "ih"),
    "b": ("lips",),
    "ch": ("t", "sh"),
    "d": ("t",),
    "dh": ("th",),
    "dx": ("t",),
    "eh": ("eh",),
    "el": ("l",),
    "em": ("lips",),
    "en": ("t",),
    "er": ("er",),
    "ey": ("eh", "ih"),
    "f": ("bite",),
    "g": ("back",),
    "hh": ("back",),
    "hv": ("back",),
    "ih": ("ih",),
    "ix": ("ih",),
    "iy": ("ee",),
    "jh": ("t", "sh"),
    "k": ("back",),
    "l": ("l",),
    "m": ("lips",),
    "n": ("t",),
    "nx": ("t",),
    "ng": ("back",),
    "ow": ("oh", "ou"),
    "oy": ("aw", "ih"),
    "p": ("lips",),
    "r": ("r",),
    "s": ("s",),
    "sh": ("sh",),
    "t": ("t",),
    "th": ("th",),
    "uh": ("ou",),
    "uw": ("oo",),
    "v": ("bite",),
    "w": ("w",),
    "y": ("j",),
    "z": ("s",),
    "zh": ("sh",),
    "ssil": (PAUSE,),
}


def visemes_of_ipa(symbol: str) -> tuple[str, ...]:
    """Visemes of one espeak phone; letters that move no lip (length, tone) are skipped.

    Empty for the marks of a language switch, such as "(en)", and of bare aspiration.
    """
    if not symbol:
        return (PAUSE,)
    if symbol.startswith("(") or symbol == "ʰ":
        return ()
    if symbol in _SPELLED:
        return _SPELLED[symbol]
    names: list[str] = []
    for letter in symbol:
        name = _IPA.get(letter)
        if name is not None and (not names or names[-1] != name):
            names.append(name)
    return tuple(names) or ("back",)


def visemes_of_arpabet(symbol: str) -> tuple[str, ...]:
    """Visemes of one flite or festival phone.

    Raises:
        KeyError: no such phone.
    """
    return _ARPABET[symbol.rstrip("012")] if symbol else (PAUSE,)


def visemes_of(engine: str, symbol: str) -> tuple[str, ...]:
    """Visemes of a phone as `engine` names it."""
    return visemes_of_ipa(symbol) if engine == "espeak" else visemes_of_arpabet(symbol)


def is_stop(engine: str, symbol: str) -> bool:
    """Whether the phone begins with a closed vocal tract, so that silence may precede it."""
    if engine == "espeak":
        return symbol[:1] in tuple("pbtdkɡgcqʈɖɟɢ")
    return symbol in ("p", "b", "t", "d", "k", "g", "ch", "jh")
