"""The whole way on a toy corpus: what is measured there means nothing, but everything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.causal_conversion.__main__ import WAYS, measure, small_takes
from benchmarks.causal_conversion.small_model import RESOLUTION, SmallTraining, Steps
from engine.spec import ModelSpec
from tests.toy_corpus import write_toy_corpus
from training.causal import convert
from training.dataset import CropStore, SpeechStore
from training.model_crops import corpus_source
from training.optimise import Recipe


@pytest.mark.slow
def test_a_small_model_is_trained_converted_and_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CLIP_FRAMES", "STREAM_FRAMES", "LEARNT_FRAMES"):
        monkeypatch.setattr(f"training.causal.{name}", 16)  # the toy corpus has short clips
    corpus = write_toy_corpus(tmp_path / "corpus")
    bidirectional = SmallTraining(corpus, tmp_path / "bidirectional").run(Steps(1, 1))
    spec = ModelSpec.read(bidirectional)
    assert (spec.carry, spec.unet.per_frame_norm) == ("pinned", False)
    store, speech = CropStore.open(corpus / "faces"), SpeechStore(spec.audio, corpus / "speech")
    clips = corpus_source(store, speech, spec)
    causal = tmp_path / "causal"
    convert(bidirectional, causal, clips, Recipe(1, 1, 1e-3))
    takes = small_takes(spec, frames=33, reader_frames=33)
    folders = {"bidirectional": bidirectional, "causal": causal}
    rows, sheet = measure(folders, takes, hops=(8,))
    assert [row["way"] for row in rows] == [way for way, _, _ in WAYS]
    assert all(row["seam"]["paired"] and row["frames"] == 128 for row in rows)
    assert [row["passes_a_frame"] for row in rows] == [2.0, 1.0, 1.0]
    assert sheet.shape == (4 * RESOLUTION, 10 * RESOLUTION, 3)
