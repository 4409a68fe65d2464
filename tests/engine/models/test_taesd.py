"""The tiny codec of Stable Diffusion's latents, held against diffusers'."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode

from engine.checkpoints import CODEC_FILE, TINY_DECODER_FILE, load_codec
from engine.errors import ModelError, StateDictMismatch
from engine.models.build import build_codec
from engine.models.kl_vae import KlCodec
from engine.models.taesd import KlTaesdCodec, TaesdCodec, decoder_alone
from engine.spec import CodecSpec
from tests.tiny_models import TINY_SPEC

TAESD = CodecSpec(kind="taesd", scaling_factor=1.0)
HYBRID = CodecSpec(kind="kl", decoder="taesd", block_out_channels=(8, 8, 8, 8), norm_num_groups=8)


@torch.no_grad()
def test_it_is_diffusers_tiny_codec() -> None:
    torch.manual_seed(0)
    theirs: Any = AutoencoderTiny()  # type: ignore[no-untyped-call]
    theirs.eval()
    ours = TaesdCodec(TAESD)
    ours.load_state_dict(theirs.state_dict())  # strict: the same keys and shapes
    image = torch.rand(2, 3, 48, 64) * 2.0 - 1.0
    latents = theirs.encode(image).latents
    torch.testing.assert_close(ours.encode(image), latents, rtol=0, atol=1e-6)
    wide = latents * 20.0  # so that their clamp at 3 shows
    torch.testing.assert_close(ours.decode(wide), theirs.decode(wide).sample, rtol=0, atol=1e-5)


def test_a_frame_of_256_pixels_stays_under_its_budget() -> None:
    with torch.device("meta"):
        codec = TaesdCodec(TAESD)
        image, latents = torch.zeros(1, 3, 256, 256), torch.zeros(1, 4, 32, 32)
    with torch.no_grad(), FlopCounterMode(display=False) as encoder:
        codec.encode(image)
    with torch.no_grad(), FlopCounterMode(display=False) as decoder:
        codec.decode(latents)
    assert round(encoder.get_total_flops() / 1e9) == 31
    assert round(decoder.get_total_flops() / 1e9) == 32  # 35 with plain doubled convolutions


@torch.no_grad()
def test_a_tiny_decoder_drops_in_beside_a_kl_encoder(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = dataclasses.replace(HYBRID, decoder="own")
    whole, tiny = KlCodec(own), decoder_alone(HYBRID)
    save_file(whole.state_dict(), tmp_path / CODEC_FILE)
    spec = dataclasses.replace(TINY_SPEC, codec=HYBRID)
    with pytest.raises(ModelError, match=r"tiny_decoder\.safetensors, found no such file"):
        load_codec(tmp_path, spec)
    save_file(tiny.state_dict(), tmp_path / TINY_DECODER_FILE)
    codec = load_codec(tmp_path, spec)
    assert isinstance(codec, KlTaesdCodec) and not codec.training
    image = torch.rand(1, 3, 32, 32) * 2.0 - 1.0
    latents = codec.encode(image)
    assert torch.equal(latents, whole.encode(image))
    assert torch.equal(codec.decode(latents), tiny["decoder"](latents))

    only_encoder = {k: v for k, v in whole.state_dict().items() if not k.startswith("decoder")}
    save_file(only_encoder, tmp_path / CODEC_FILE)
    with pytest.raises(StateDictMismatch):  # of what is published nothing may be missing
        load_codec(tmp_path, spec)


def test_a_whole_tiny_codec_loads_as_published(tmp_path: Path) -> None:
    theirs: Any = AutoencoderTiny()  # type: ignore[no-untyped-call]
    save_file(theirs.state_dict(), tmp_path / CODEC_FILE)
    codec = load_codec(tmp_path, dataclasses.replace(TINY_SPEC, codec=TAESD))
    assert isinstance(codec, TaesdCodec)


@pytest.mark.parametrize("spec", [TAESD, HYBRID, dataclasses.replace(HYBRID, decoder="own")])
@torch.no_grad()
def test_every_kind_is_built_from_its_spec(spec: CodecSpec) -> None:
    codec = build_codec(dataclasses.replace(TINY_SPEC, codec=spec))
    image = torch.zeros(1, 3, 32, 32)
    latents = codec.encode(image)
    assert latents.shape == (1, 4, 4, 4)
    assert codec.decode(latents).shape == image.shape
