from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.backends.base import GeneratedHop, HopInput, SessionState
from engine.media import F32, U8
from engine.spec import AudioSpec, CodecSpec, ModelSpec, UNetSpec
from tests.toy_corpus import write_toy_corpus
from training.dataset import BUNDLED_FACE, CropStore, SpeechStore
from training.evaluate import (
    Take,
    contact_sheet,
    generate,
    paired_take,
    speech_takes,
    tracked,
    with_sound_of,
)
from training.model_card import model_card
from training.regressor import MouthRegressor, read_mouths

SPEC = ModelSpec(
    name="toy",
    licence="Apache-2.0",
    resolution=128,
    audio=AudioSpec(width=16, layers=1, heads=2, positions=16, log_floor=-5.0),
    unet=UNetSpec(in_channels=13, cross_attention_dim=16, audio_tokens=20),
    codec=CodecSpec(kind="tiny"),
    face=BUNDLED_FACE,
    prediction_type="sample",
    carry="causal",
)


class GreyBackend:
    """Generates grey, whatever it hears; counts the hops."""

    name = "grey"
    spec = SPEC
    max_batch = 1

    def __init__(self) -> None:
        self.hops = 0

    def encode(self, crops: U8, *, masked: bool) -> F32:
        return np.zeros((len(crops), 4, 16, 16), np.float32)

    def new_session(self, *, hop_frames: int, seed: int) -> SessionState:
        return self

    def reset(self) -> None:
        self.hops = 0

    def warm_up(self, hop_frames: int) -> None:
        """Always ready."""

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        self.hops += 1
        grey = [np.full((len(item.mel), 128, 128, 3), 128, np.uint8) for item in batch]
        return [GeneratedHop(crops) for crops in grey]


@pytest.fixture
def take(tmp_path: Path) -> Take:
    corpus = write_toy_corpus(tmp_path)
    store = CropStore.open(corpus / "faces")
    speech = SpeechStore(SPEC.audio, corpus / "speech")
    return paired_take(store, speech, store.clips("test")[0])


def test_generating_replaces_the_mouth_and_keeps_the_rest(take: Take) -> None:
    backend = GreyBackend()
    video = generate(backend, take, hop=8)
    assert (backend.hops, len(video)) == (3, 24)
    assert (video[:, 70, 64] == 128).all()
    np.testing.assert_array_equal(video[:, 0], take.source[:24, 0])


def test_speech_without_clips_long_enough_gives_no_takes(tmp_path: Path) -> None:
    corpus = write_toy_corpus(tmp_path)
    store = CropStore.open(corpus / "faces")
    assert speech_takes(store, SPEC.audio, "voices", 2, corpus / "speech") == []


def test_a_track_held_against_itself_scores_one(take: Take) -> None:
    scores = tracked(take.mouth, [take])
    assert scores["opening"] == pytest.approx(1.0)
    assert scores["lag_frames"] == 0


def test_wrong_sound_moves_on_by_one_take(take: Take) -> None:
    other = replace(take, mel=take.mel + 1)
    wrong = with_sound_of([take, other])
    assert (wrong[0].mel == other.mel).all()
    assert (wrong[1].mel == take.mel).all()
    assert (wrong[0].mouth == take.mouth).all()


def test_the_judge_reads_seven_numbers_off_every_crop(take: Take) -> None:
    assert read_mouths(MouthRegressor(), take.truth[:3]).shape == (3, 7)


def test_the_contact_sheet_shows_every_model_below_source_and_truth(
    take: Take, tmp_path: Path
) -> None:
    path = tmp_path / "sheets" / "sheet.png"
    contact_sheet(path, [take], [[take.truth], [take.source]])
    sheet = cv2.imread(str(path))
    assert sheet is not None
    assert sheet.shape == (4 * 128, 8 * 128, 3)
    np.testing.assert_array_equal(sheet[128:256], sheet[256:384])
    np.testing.assert_array_equal(sheet[:128], sheet[384:])


def test_the_card_names_licence_and_limits() -> None:
    card = model_card(SPEC, None)
    assert "Apache-2.0" in card
    assert "never seen a photograph" in card
    assert "Not scored yet" in card
