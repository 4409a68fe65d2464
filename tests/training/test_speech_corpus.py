"""The corpus on disk: the same bytes from any run, what was killed goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.media import FRAME_SAMPLES
from training.speech.corpus import (
    Part,
    Settings,
    join_parts,
    parts_of,
    write_corpus,
    write_part,
)
from training.speech.engines import ENGINES, missing, speak
from training.speech.utterance import (
    Delivery,
    EngineName,
    SpeechEngineError,
    Utterance,
    Voice,
)
from training.speech.voices import SPLITS, voices_needed

ABSENT = tuple(voice for voice in voices_needed() if missing(voice) is not None)
WITHOUT: tuple[EngineName, ...] = tuple(
    name for name in ENGINES if any(voice.engine == name for voice in ABSENT)
)

needs_an_engine = pytest.mark.skipif(
    "espeak" in WITHOUT or "flite" in WITHOUT, reason="needs espeak-ng and flite"
)


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@needs_an_engine
def test_a_corpus_repeats_with_its_seed_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    settings = Settings(0.5, 11, WITHOUT)
    write_corpus(tmp_path / "whole", settings)
    cut = tmp_path / "cut"
    (cut / "parts" / "train-000.partial").mkdir(parents=True)
    (cut / "parts" / "train-000.partial" / "audio.npy").write_bytes(b"half")
    write_part(cut / "parts", parts_of("sentences", 0.5 * 0.04)[0], settings)
    write_corpus(cut, settings)
    assert content(cut) == content(tmp_path / "whole")
    for split in SPLITS:
        if not (cut / split).is_dir():
            continue
        audio, mouth = np.load(cut / split / "audio.npy"), np.load(cut / split / "mouth.npy")
        assert audio.dtype == np.int16
        assert len(audio) == FRAME_SAMPLES * len(mouth)
        listed = json.loads((cut / split / "clips.json").read_text(encoding="utf-8"))
        assert listed[0]["start"] == 0
        assert listed[-1]["start"] + listed[-1]["frames"] == len(mouth)


def test_a_corpus_of_other_settings_is_refused(tmp_path: Path) -> None:
    everything = tuple(ENGINES)
    write_corpus(tmp_path, Settings(1.0, 1, everything))
    with pytest.raises(ValueError, match=r"expected .*'seed': 2"):
        write_corpus(tmp_path, Settings(1.0, 2, everything))


def test_parts_add_up_and_only_the_last_is_short() -> None:
    parts = parts_of("train", 9.5)
    assert [part.minutes for part in parts] == [4.0, 4.0, 1.5]
    assert [part.name for part in parts] == ["train-000", "train-001", "train-002"]
    assert [part.minutes for part in parts_of("voices", 8.0)] == [4.0, 4.0]


@needs_an_engine
def test_clips_that_an_engine_fails_at_are_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(1000))

    def sometimes(texts: list[str], voice: Voice, delivery: Delivery) -> list[Utterance]:
        if next(calls) == 1:
            raise SpeechEngineError("no breath left")
        return speak(texts, voice, delivery)

    monkeypatch.setattr("training.speech.clips.speak", sometimes)
    part = Part("sentences", 0, 0.5)
    write_part(tmp_path, part, Settings(1.0, 3, WITHOUT))
    left_out = join_parts(tmp_path, [part], tmp_path / "sentences")
    assert left_out == [{"file": "sentences-000", "reason": "SpeechEngineError: no breath left"}]


def test_an_engine_that_always_fails_stops_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(texts: list[str], voice: Voice, delivery: Delivery) -> list[Utterance]:
        raise SpeechEngineError("no breath left")

    monkeypatch.setattr("training.speech.clips.speak", never)
    with pytest.raises(SpeechEngineError, match=r"train-000.*no breath left"):
        write_part(tmp_path, Part("train", 0, 1.0), Settings(1.0, 3))
