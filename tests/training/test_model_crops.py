from __future__ import annotations

import dataclasses

import pytest
import torch

from engine.errors import ConfigError
from engine.face.align import latentsync_face
from engine.models.build import build_audio_encoder, build_codec
from engine.spec import FaceSpec, ModelSpec
from tests.tiny_models import TINY_SPEC
from tests.toy_corpus import CLIP_FRAMES, write_toy_corpus
from training.dataset import BUNDLED_FACE, CropStore, SpeechStore
from training.model_crops import (
    ClipEncoder,
    latent_weight,
    lips_box,
    pixel_weight,
    resized,
    spoken_clips,
)


def bundled_face(resolution: int) -> FaceSpec:
    scale = resolution / BUNDLED_FACE.crop_width
    (ax, ay), (bx, by), (cx, cy) = BUNDLED_FACE.template
    template = ((ax * scale, ay * scale), (bx * scale, by * scale), (cx * scale, cy * scale))
    return dataclasses.replace(
        BUNDLED_FACE, template=template, crop_width=resolution, crop_height=resolution
    )


SPEC = dataclasses.replace(TINY_SPEC, face=bundled_face(32))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[CropStore, SpeechStore]:
    folder = write_toy_corpus(tmp_path_factory.mktemp("corpus"))
    return CropStore.open(folder / "faces"), SpeechStore(SPEC.audio, folder / "speech")


def test_lips_lie_where_the_corpus_draws_them_whatever_the_crop() -> None:
    assert lips_box(BUNDLED_FACE, 128) == (32, 42, 96, 102)
    assert lips_box(bundled_face(32), 32) == (8, 11, 24, 26)
    # 23.0..52.0 and 60.1..87.4 in template units, 2.8 crop pixels a unit, 210 x 280 to 256.
    assert lips_box(latentsync_face(256), 256) == (79, 154, 177, 224)


def test_weights_are_largest_on_the_lips_and_average_to_one() -> None:
    weight, cells = pixel_weight(SPEC), latent_weight(SPEC)
    assert weight.mean() == pytest.approx(1.0)
    assert cells.mean() == pytest.approx(1.0)
    assert weight[16, 16] > 3 * weight[28, 16] > 0
    assert weight[0, 0] < 0.1 * weight[28, 16]


def test_clips_are_a_function_of_their_seed(corpus: tuple[CropStore, SpeechStore]) -> None:
    first, again, other = (spoken_clips(*corpus, SPEC, (2, 6), "train", s) for s in (4, 4, 5))
    assert first.pictures.shape == first.sources.shape == (2, 6, 3, 32, 32)
    assert first.mel.shape == (2, 6, 80, SPEC.audio.mel_frames)
    assert torch.equal(first.pictures, again.pictures) and torch.equal(first.mel, again.mel)
    assert not torch.equal(first.pictures, other.pictures)


def test_encoded_clips_fit_the_network(corpus: tuple[CropStore, SpeechStore]) -> None:
    codec, audio = build_codec(SPEC), build_audio_encoder(SPEC)
    clips = spoken_clips(*corpus, SPEC, (2, 6), "train", 1)
    clip = ClipEncoder(SPEC, codec, audio)(clips)
    assert clip.tokens.shape == (2, 6, 20, 16)
    given = clip.network_input(torch.zeros_like(clip.whole))
    assert given.shape == (2, 13, 6, 4, 4)
    assert torch.equal(given[:, 9:], clip.reference) and torch.equal(given[:, 5:9], clip.masked)
    # Nothing of the mouth that is to be drawn is in the input.
    told = dataclasses.replace(clips, pictures=torch.zeros_like(clips.pictures))
    blind = ClipEncoder(SPEC, codec, audio)(told)
    assert torch.equal(blind.network_input(torch.zeros_like(blind.whole)), given)


def test_pictures_are_averaged_down() -> None:
    pictures = torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 3, 4, 4)
    assert resized(pictures, 2)[0, 0].tolist() == [[2.5, 4.5], [10.5, 12.5]]
    assert resized(pictures, 4) is pictures


@pytest.mark.parametrize(
    ("spec", "frames", "why"),
    [
        (dataclasses.replace(SPEC, face=latentsync_face(32)), 6, "the corpus's crop"),
        (SPEC, CLIP_FRAMES + 1, "at least"),
    ],
)
def test_what_the_corpus_cannot_show_is_refused(
    corpus: tuple[CropStore, SpeechStore], spec: ModelSpec, frames: int, why: str
) -> None:
    with pytest.raises(ConfigError, match=why):
        spoken_clips(*corpus, spec, (1, frames), "train", 0)
