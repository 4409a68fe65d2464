from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.backends.base import GeneratedHop, HopInput, SessionState
from engine.media import F32, U8
from engine.spec import AudioSpec, CodecSpec, ModelSpec, UNetSpec
from tests.toy_corpus import write_toy_corpus
from training.dataset import BUNDLED_FACE, CropStore, SpeechStore
from training.evaluate import (
    Take,
    boundary_ratio,
    contact_sheet,
    generate,
    mouth_error,
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
    return paired_take(store, speech, GreyBackend(), store.clips("test")[0])


def test_generating_replaces_the_mouth_and_keeps_the_rest(take: Take) -> None:
    backend = GreyBackend()
    video = generate(backend, take, hop=8)
    assert (backend.hops, len(video)) == (2, 16)
    assert (video[:, 70, 64] == 128).all()
    np.testing.assert_array_equal(video[:, 0], take.source[:16, 0])


def test_speech_without_clips_long_enough_gives_no_takes(tmp_path: Path) -> None:
    corpus = write_toy_corpus(tmp_path)
    store = CropStore.open(corpus / "faces")
    assert speech_takes(store, GreyBackend(), "voices", 2, corpus / "speech") == []


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


def test_the_boundary_ratio_sees_a_jump_at_every_hop() -> None:
    steady = (
        np.zeros((16, 128, 128, 3), np.uint8) + np.arange(16, dtype=np.uint8)[:, None, None, None]
    )
    jumping = steady + 10 * (np.arange(16, dtype=np.uint8) // 4)[:, None, None, None]
    assert boundary_ratio([steady], 4) == pytest.approx(1.0)
    assert boundary_ratio([jumping], 4) == pytest.approx(11.0)


def test_only_the_mouth_counts_in_the_mouths_error() -> None:
    black = np.zeros((2, 128, 128, 3), np.uint8)
    elsewhere = black.copy()
    elsewhere[:, :10] = 255
    inside = black.copy()
    inside[:, 60:70, 60:70] = 255
    assert mouth_error([elsewhere], [black]) > 100
    assert mouth_error([inside], [black]) < 20


def test_the_judge_reads_seven_numbers_off_every_crop(take: Take) -> None:
    assert read_mouths(MouthRegressor(), take.truth[:3]).shape == (3, 7)


def test_the_contact_sheet_shows_truth_over_generated(take: Take, tmp_path: Path) -> None:
    contact_sheet(tmp_path / "sheets" / "sheet.png", [take.truth], [take])
    assert (tmp_path / "sheets" / "sheet.png").stat().st_size > 0


def test_the_card_names_licence_and_limits() -> None:
    card = model_card(SPEC, None)
    assert "Apache-2.0" in card
    assert "never seen a photograph" in card
    assert "Not scored yet" in card
