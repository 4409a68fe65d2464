from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.models.tiny_codec import TinyCodec
from engine.models.unet import UNet3DConditionModel
from engine.models.whisper import WhisperEncoder
from engine.spec import AudioSpec, CodecSpec, UNetSpec
from tests.toy_corpus import write_toy_corpus
from training.audio_encoder import BUNDLED_AUDIO
from training.codec import load, save
from training.dataset import CropStore, SpeechStore
from training.denoiser import Paths, follow_phase, render_phase
from training.hearing import (
    SPREAD_RESTORED,
    Reading,
    TaughtFilm,
    bundled_unet_spec,
    drawing_unet,
    exported,
    following_unet,
    mouth_tokens,
    read_mouth_linearly,
    widened,
)
from training.optimise import Recipe
from training.regressor import MouthRegressor

AUDIO = AudioSpec(width=16, layers=1, heads=2, positions=16, log_floor=-5.0)
UNET = UNetSpec(
    in_channels=13,
    out_channels=4,
    block_out_channels=(16, 16),
    attention_blocks=(False, True),
    layers_per_block=1,
    attention_heads=2,
    cross_attention_dim=16,
    audio_tokens=20,
    norm_num_groups=8,
    motion_heads=2,
    motion_decoder_only=True,
    per_frame_norm=True,
    time_scale_shift=True,
    audio_film=True,
    reference_gate=True,
)


@pytest.fixture
def following(tmp_path: Path) -> tuple[UNet3DConditionModel, UNet3DConditionModel]:
    """A network that draws, and what it becomes when it is to hear."""
    torch.manual_seed(0)
    corpus = write_toy_corpus(tmp_path / "corpus")
    drawing = drawing_unet(UNET).eval()
    path = tmp_path / "render.safetensors"
    save_file({k: v.contiguous() for k, v in drawing.state_dict().items()}, path)
    store, speech = CropStore.open(corpus / "faces"), SpeechStore(AUDIO, corpus / "speech")
    reading = read_mouth_linearly(WhisperEncoder(AUDIO).eval(), store, speech)
    return drawing, following_unet(UNET, path, reading).eval()


def test_a_taught_network_draws_what_it_drew_before_it_could_hear(
    following: tuple[UNet3DConditionModel, UNet3DConditionModel],
) -> None:
    drawing, hearing = following
    sample, timestep = torch.randn(2, 13, 4, 16, 16), torch.full((2,), 999.0)
    mouth = torch.rand(8, 7)
    film = hearing.audio_film
    assert isinstance(film, TaughtFilm)
    film.taught = (mouth, torch.ones(8, 1, dtype=torch.bool))
    tokens = mouth_tokens(mouth, 16).reshape(2, 4, 1, 16)
    with torch.no_grad():
        before = drawing.forward_clip(sample, timestep, tokens, 4)
        after = hearing.forward_clip(sample, timestep, torch.randn(2, 4, 20, 16), 4)
    torch.testing.assert_close(before, after, atol=1e-5, rtol=1e-4)


def test_what_is_exported_fits_the_engines_network(
    following: tuple[UNet3DConditionModel, UNet3DConditionModel],
) -> None:
    UNet3DConditionModel(UNET).load_state_dict(exported(following[1].state_dict()))


def test_widening_scales_what_is_read_about_the_resting_mouth() -> None:
    weights, mix = torch.randn(7, 320), torch.randn(64, 7)
    reading = Reading(weights, torch.randn(7), torch.full((7,), 1.5))
    state = {
        "audio_film.linear_1.weight": mix @ weights,
        "audio_film.linear_1.bias": torch.ones(64) + mix @ reading.biases,
    }
    wide = widened(state, reading)
    tokens = torch.randn(320)
    mouth = (1 + 0.5 * SPREAD_RESTORED) * (weights @ tokens + reading.biases)
    heard = wide["audio_film.linear_1.weight"] @ tokens + wide["audio_film.linear_1.bias"]
    torch.testing.assert_close(heard, torch.ones(64) + mix @ mouth, atol=1e-3, rtol=1e-3)


def test_an_open_gate_shows_the_reference() -> None:
    unet = UNet3DConditionModel(UNET).eval()
    with torch.no_grad():
        unet.conv_out.weight.zero_()
        assert unet.conv_out.bias is not None
        unet.conv_out.bias.fill_(40.0)
        sample = torch.randn(1, 13, 2, 16, 16)
        out = unet(sample, torch.full((1,), 999.0), torch.randn(1, 2, 20, 16))
    torch.testing.assert_close(out, sample[:, -4:])


def test_saved_weights_load(tmp_path: Path) -> None:
    save_file(
        exported({"a": torch.ones(2), "audio_film.mouth.bias": torch.ones(1)}), tmp_path / "x"
    )
    assert list(load_file(tmp_path / "x")) == ["a"]


@pytest.mark.slow
def test_both_phases_run_from_a_codec_to_a_network_that_the_engine_loads(tmp_path: Path) -> None:
    corpus, folder = write_toy_corpus(tmp_path / "corpus"), tmp_path / "train"
    folder.mkdir()
    paths = Paths.under(folder, corpus)
    torch.manual_seed(0)
    save(TinyCodec(CodecSpec(kind="tiny", latent_channels=16, width=8, blocks=1)), paths.codec)
    save_file(MouthRegressor().state_dict(), paths.reader)
    save_file(WhisperEncoder(BUNDLED_AUDIO).state_dict(), paths.encoder)
    render_phase(Recipe(steps=2, batch=2, rate=1e-3), paths)
    follow_phase(Recipe(steps=2, batch=1, rate=1e-3, seed=2), paths)
    before, after = load(paths.codec), load(paths.drawn_codec)
    assert torch.equal(before.encoder.patches.weight, after.encoder.patches.weight)
    weights = before.decoder.conv_out.weight, after.decoder.conv_out.weight
    assert not torch.equal(*weights)
    UNet3DConditionModel(bundled_unet_spec(16)).load_state_dict(load_file(paths.out))
