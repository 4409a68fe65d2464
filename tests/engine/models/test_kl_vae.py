"""The Stable Diffusion codec, held against diffusers' at a small size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from engine.errors import ConfigError, StateDictMismatch
from engine.models.build import load_module
from engine.models.kl_vae import KlCodec
from engine.spec import CodecSpec

SMALL = CodecSpec(kind="kl", block_out_channels=(8, 16, 16, 24), norm_num_groups=8)


def diffusers_vae(spec: CodecSpec) -> nn.Module:
    levels = len(spec.block_out_channels)
    vae: Any = AutoencoderKL(  # type: ignore[no-untyped-call]
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=spec.block_out_channels,
        layers_per_block=spec.layers_per_block,
        norm_num_groups=spec.norm_num_groups,
        latent_channels=spec.latent_channels,
    )
    module: nn.Module = vae.eval().requires_grad_(False)
    return module


@pytest.mark.parametrize("shape", [(64, 64), (48, 80)])
@torch.no_grad()
def test_it_is_diffusers_codec(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs: Any = diffusers_vae(SMALL).double()  # single precision differs by its rounding, 2e-5
    ours = KlCodec(SMALL).double().eval()
    ours.load_state_dict(theirs.state_dict())  # strict: the same keys and shapes
    image = torch.rand(2, 3, *shape, dtype=torch.float64) * 2.0 - 1.0
    latents = theirs.encode(image).latent_dist.mode()
    torch.testing.assert_close(ours.encode(image), latents * 0.18215, rtol=0, atol=1e-12)
    decoded = theirs.decode(latents).sample
    torch.testing.assert_close(ours.decode(latents * 0.18215), decoded, rtol=0, atol=1e-11)
    assert decoded.std() > 0.1


@torch.no_grad()
def test_channels_last_changes_nothing() -> None:
    torch.manual_seed(0)
    codec = KlCodec(SMALL).double()
    image = torch.rand(2, 3, 32, 32, dtype=torch.float64) * 2.0 - 1.0
    latents = codec.encode(image)
    picture = codec.decode(latents)
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.testing.assert_close(codec.encode(image), latents, rtol=0, atol=1e-12)
    last = latents.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(codec.decode(last), picture, rtol=0, atol=1e-12)


@torch.no_grad()
def test_encoding_draws_no_noise() -> None:
    codec = KlCodec(SMALL)
    image = torch.rand(1, 3, 32, 32) * 2.0 - 1.0
    assert torch.equal(codec.encode(image), codec.encode(image))


def test_files_load_strictly(tmp_path: Path) -> None:
    weights = {key: value.contiguous() for key, value in diffusers_vae(SMALL).state_dict().items()}
    save_file(weights, tmp_path / "codec.safetensors")
    load_module(lambda: KlCodec(SMALL), tmp_path / "codec.safetensors")
    weights["decoder.mid_block.attentions.0.query.weight"] = weights.pop(
        "decoder.mid_block.attentions.0.to_q.weight"
    )
    save_file(weights, tmp_path / "codec.safetensors")
    with pytest.raises(StateDictMismatch) as caught:
        load_module(lambda: KlCodec(SMALL), tmp_path / "codec.safetensors")
    assert caught.value.missing == ["decoder.mid_block.attentions.0.to_q.weight"]
    assert caught.value.unexpected == ["decoder.mid_block.attentions.0.query.weight"]


def test_the_published_size_costs_what_it_should() -> None:
    with torch.device("meta"):
        codec = KlCodec(CodecSpec())
        image, latents = torch.zeros(1, 3, 256, 256), torch.zeros(1, 4, 32, 32)
    with torch.no_grad(), FlopCounterMode(display=False) as encoder:
        codec.encode(image)
    with torch.no_grad(), FlopCounterMode(display=False) as decoder:
        codec.decode(latents)
    assert round(encoder.get_total_flops() / 1e9) == 273
    assert round(decoder.get_total_flops() / 1e9) == 526  # 622 with plain doubled convolutions
    assert sum(value.numel() for value in codec.parameters()) == 83_653_863


def test_misfitting_specs_are_refused() -> None:
    for change, words in (
        ({"downscale": 16}, "expected a downscale of 8"),
        ({"block_out_channels": (8, 16, 16, 20), "norm_num_groups": 8}, "multiples of 8 groups"),
        ({"kind": "vq"}, "expected a codec of"),
        ({"kind": "taesd"}, "expected a scaling_factor of 1"),
        ({"kind": "tiny", "decoder": "taesd"}, "the codec's own decoder"),
        ({"kind": "tiny", "decode_rows": True}, "got it of the tiny one"),
    ):
        with pytest.raises(ConfigError, match=words):
            CodecSpec(**change)
