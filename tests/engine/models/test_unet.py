"""One network, three ways to run it: window, hop with rings, clip."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.models.frame_windows import FrameWindows
from engine.models.temporal import TemporalAttention
from engine.models.unet import UNet3DConditionModel
from engine.spec import WARP_CHANNELS, UNetSpec

WINDOW = 16
SIZE = 4
FRAMES = 40  # two and a half windows: the rings wrap


def tiny_spec(**options: bool) -> UNetSpec:
    return UNetSpec(
        in_channels=7,
        out_channels=2,
        block_out_channels=(8, 16),
        attention_blocks=(False, True),
        layers_per_block=1,
        attention_heads=2,
        cross_attention_dim=12,
        audio_tokens=5,
        norm_num_groups=4,
        motion_heads=2,
        **options,
    )


def random_unet(spec: UNetSpec, dtype: torch.dtype) -> UNet3DConditionModel:
    """Every weight random, the zero-initialised ones too: else time would not mix."""
    torch.manual_seed(0)
    unet = UNet3DConditionModel(spec)
    for name, parameter in unet.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
    return unet.to(dtype).eval()


def random_inputs(spec: UNetSpec, frames: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    sample = torch.randn(2, spec.in_channels, frames, SIZE, SIZE, dtype=dtype)
    audio = torch.randn(2, frames, spec.audio_tokens, spec.cross_attention_dim, dtype=dtype)
    return sample, torch.tensor([999, 500]), audio


def empty_rings(unet: UNet3DConditionModel, context: int, dtype: torch.dtype) -> list[Tensor]:
    shapes = [*unet.ring_shapes(SIZE), *((groups,) for groups in unet.moment_shapes())]
    return [torch.zeros(2, 2, context, *shape, dtype=dtype) for shape in shapes]


@torch.no_grad()
def stream(
    unet: UNet3DConditionModel,
    inputs: tuple[Tensor, Tensor, Tensor],
    hop: int,
    *,
    drop_moments: bool = False,
) -> Tensor:
    """The clip hop by hop; `drop_moments` norms every hop by its own frames alone."""
    sample, timestep, audio = inputs
    context = WINDOW - hop
    rings = empty_rings(unet, context, sample.dtype)
    count = len(unet.ring_shapes(SIZE))
    valid = torch.zeros(2, context, dtype=sample.dtype)
    outs = []
    for start in range(0, sample.shape[2], hop):
        hops = slice(start, start + hop)
        if drop_moments:
            rings[count:] = own_moments(unet, sample[:, :, hops], timestep, audio[:, hops], context)
        out, new = unet.forward_hop(
            sample[:, :, hops], timestep, audio[:, hops], valid if context else None, rings
        )
        outs.append(out)
        if context:
            rings = [
                torch.cat([old, more], 2)[:, :, hop:] for old, more in zip(rings, new, strict=True)
            ]
            valid = torch.cat([valid, torch.ones(2, hop, dtype=valid.dtype)], 1)[:, hop:]
    return torch.cat(outs, dim=2)


@torch.no_grad()
def own_moments(
    unet: UNet3DConditionModel, sample: Tensor, timestep: Tensor, audio: Tensor, context: int
) -> list[Tensor]:
    """Moment rings filled with the hop's own mean, as if earlier frames were like it."""
    _, new = unet.forward_hop(sample, timestep, audio, None, [])
    moments = new[len(unet.ring_shapes(SIZE)) :]
    return [m.mean(dim=2, keepdim=True).expand(-1, -1, context, -1) for m in moments]


@pytest.mark.parametrize("hop", [1, 2, 4, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_unet_chunked_equals_whole(hop: int, dtype: torch.dtype, tolerance: float) -> None:
    spec = tiny_spec(
        per_frame_norm=True, motion_decoder_only=True, time_scale_shift=True, audio_film=True
    )
    unet, inputs = random_unet(spec, dtype), random_inputs(spec, FRAMES, dtype)
    with torch.no_grad():
        whole = unet.forward_clip(*inputs, hop=hop)
    assert (stream(unet, inputs, hop) - whole).abs().max() < tolerance


@pytest.mark.parametrize("hop", [1, 2, 4, 8])
def test_unet_with_pooled_norms_chunked_equals_whole(hop: int) -> None:
    spec = tiny_spec()
    unet = random_unet(spec, torch.float64)
    inputs = random_inputs(spec, FRAMES, torch.float64)
    with torch.no_grad():
        whole = unet.forward_clip(*inputs, hop=hop)
    assert (stream(unet, inputs, hop) - whole).abs().max() < 1e-10


def test_the_warp_comes_beside_the_latents_and_changes_none_of_them() -> None:
    plain, warping = (tiny_spec(reference_gate=True, source_warp=warp) for warp in (False, True))
    inputs = random_inputs(plain, WINDOW, torch.float64)
    unet = random_unet(warping, torch.float64)
    fewer = UNet3DConditionModel(plain).double().eval()
    state = unet.state_dict()
    for key in ("conv_out.weight", "conv_out.bias"):
        state[key] = state[key][: 2 * plain.out_channels]
    fewer.load_state_dict(state)
    with torch.no_grad():
        both, latents = unet(*inputs), fewer(*inputs)
    assert both.shape[1] == plain.out_channels + WARP_CHANNELS == warping.prediction_channels
    assert (both[:, : plain.out_channels] - latents).abs().max() < 1e-12


def test_dropping_the_norm_moments_breaks_the_carry() -> None:
    spec = tiny_spec()
    unet = random_unet(spec, torch.float64)
    inputs = random_inputs(spec, FRAMES, torch.float64)
    with torch.no_grad():
        whole = unet.forward_clip(*inputs, hop=4)
    assert (stream(unet, inputs, 4, drop_moments=True) - whole).abs().max() > 1e-2


def test_a_hop_of_the_whole_window_is_a_window() -> None:
    spec = tiny_spec()
    unet = random_unet(spec, torch.float64)
    inputs = random_inputs(spec, WINDOW, torch.float64)
    with torch.no_grad():
        whole = unet(*inputs)
        out, new = unet.forward_hop(*inputs, None, [])
        clip = unet.forward_clip(*inputs, hop=WINDOW)
    assert (out - whole).abs().max() < 1e-12
    assert (clip - whole).abs().max() < 1e-12
    assert len(new) == len(unet.ring_shapes(SIZE)) + len(unet.moment_shapes())


def test_absent_context_is_not_seen() -> None:
    spec = tiny_spec(per_frame_norm=True)
    unet = random_unet(spec, torch.float64)
    sample, timestep, audio = random_inputs(spec, 4, torch.float64)
    valid = torch.zeros(2, 12, dtype=torch.float64)
    rings = empty_rings(unet, 12, torch.float64)
    with torch.no_grad():
        quiet, _ = unet.forward_hop(sample, timestep, audio, valid, rings)
        garbage = [torch.randn_like(ring) for ring in rings]
        loud, _ = unet.forward_hop(sample, timestep, audio, valid, garbage)
        seen, _ = unet.forward_hop(sample, timestep, audio, torch.ones_like(valid), garbage)
    assert torch.equal(quiet, loud)
    assert (quiet - seen).abs().max() > 1e-3


def test_a_clip_does_not_see_later_blocks() -> None:
    spec = tiny_spec(per_frame_norm=True)
    unet = random_unet(spec, torch.float64)
    sample, timestep, audio = random_inputs(spec, FRAMES, torch.float64)
    other = sample.clone()
    other[:, :, 20:] += 1.0
    with torch.no_grad():
        change = unet.forward_clip(other, timestep, audio, 4)
        change -= unet.forward_clip(sample, timestep, audio, 4)
    assert change[:, :, :20].abs().max() == 0.0
    assert change[:, :, 20:].abs().amax(dim=(0, 1, 3, 4)).min() > 1e-3


def test_a_mask_hides_frames_in_a_window() -> None:
    spec = tiny_spec(per_frame_norm=True)
    unet = random_unet(spec, torch.float64)
    sample, timestep, audio = random_inputs(spec, 8, torch.float64)
    causal = torch.ones(8, 8, dtype=torch.bool).tril()
    other = sample.clone()
    other[:, :, 5:] += 1.0
    with torch.no_grad():
        change = unet(other, timestep, audio, causal) - unet(sample, timestep, audio, causal)
    assert change[:, :, :5].abs().max() == 0.0
    assert change[:, :, 5:].abs().max() > 1e-3


@pytest.mark.parametrize("hop", [1, 4, 16])
def test_temporal_attention_equals_a_loop_over_frames(hop: int) -> None:
    torch.manual_seed(2)
    channels, frames = 8, 32
    layer = TemporalAttention(channels, 2, 24).double()
    x = torch.randn(1, frames, 1, channels, dtype=torch.float64)
    windows = FrameWindows.of_clip(frames, hop, WINDOW - hop, 1, x)
    with torch.no_grad():
        out = layer(x, windows)[0, :, 0]
        for frame in range(frames):
            end = (frame // hop + 1) * hop
            seen = range(max(0, end - WINDOW), end)
            places = torch.tensor([WINDOW - end + j for j in seen])
            source = x[0, list(seen), 0] + layer.pos_encoder.pe[0, places]
            query = layer.to_q(source[frame - seen.start]).reshape(2, 1, -1)
            keys = layer.to_k(source).reshape(len(seen), 2, -1).transpose(0, 1)
            values = layer.to_v(source).reshape(len(seen), 2, -1).transpose(0, 1)
            weights = (query @ keys.transpose(1, 2) / (channels // 2) ** 0.5).softmax(-1)
            expected = layer.to_out[0]((weights @ values).reshape(channels))
            assert (out[frame] - expected).abs().max() < 1e-12


def test_odd_latent_sizes_come_back() -> None:
    unet = random_unet(tiny_spec(), torch.float32)
    with torch.no_grad():
        out = unet(torch.randn(1, 7, 2, 5, 7), torch.tensor([1]), torch.randn(1, 2, 5, 12))
    assert out.shape == (1, 2, 2, 5, 7)


def test_options_add_keys_only_when_they_are_on() -> None:
    plain = set(UNet3DConditionModel(tiny_spec()).state_dict())
    film = set(UNet3DConditionModel(tiny_spec(audio_film=True)).state_dict())
    decoder = set(UNet3DConditionModel(tiny_spec(motion_decoder_only=True)).state_dict())
    assert {key.split(".")[0] for key in film - plain} == {"audio_film"}
    assert all("down_blocks" in key and "motion_modules" in key for key in plain - decoder)


def test_clip_of_broken_length_is_refused() -> None:
    spec = tiny_spec()
    unet = random_unet(spec, torch.float32)
    with pytest.raises(ValueError, match="multiple of 4 frames, got 6"):
        unet.forward_clip(*random_inputs(spec, 6, torch.float32), hop=4)
