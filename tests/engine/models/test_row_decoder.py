"""Some rows of a picture are those of the whole picture."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engine.errors import ConfigError
from engine.face.align import latentsync_face
from engine.face.mask import paste_weights
from engine.models.decode_rows import Rows
from engine.models.kl_vae import KlCodec
from engine.models.row_decoder import RowDecoder
from engine.models.taesd import TaesdCodec
from engine.spec import CodecSpec

SMALL = CodecSpec(kind="kl", block_out_channels=(8, 8, 16, 16), norm_num_groups=4)
TAESD = CodecSpec(kind="taesd", scaling_factor=1.0)


@pytest.fixture(scope="module")
def codec() -> KlCodec:
    torch.manual_seed(0)
    codec = KlCodec(SMALL).double().eval().requires_grad_(False)
    for module in codec.modules():
        if isinstance(module, nn.GroupNorm):  # or a wrong moment would hide behind a plain norm
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias, 0.0, 0.3)
    return codec


def latents(frames: int, seed: int = 1) -> Tensor:
    """Of pictures 96 pixels high and 64 wide; the top is unlike the bottom."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(frames, 4, 12, 8, generator=generator, dtype=torch.float64)
    return (noise + torch.linspace(-2.0, 2.0, 12, dtype=torch.float64)[:, None]) * 0.18215


@pytest.mark.parametrize("rows", [(40, 80), (37, 91), (0, 30), (60, 96), (0, 96), (50, 51)])
@pytest.mark.parametrize("whole_levels", [0, 1, 3])
def test_with_its_own_moments_a_strip_is_the_whole_pictures(
    codec: KlCodec, rows: tuple[int, int], whole_levels: int
) -> None:
    decoder = RowDecoder(codec, Rows(*rows, 96), whole_levels)
    given = latents(2)
    pictures, moments = decoder.decode_with_moments(given)
    assert torch.equal(pictures, codec.decode(given))
    assert moments.shape == (2, *decoder.moments_shape)
    strips = decoder.decode_rows(given, moments)
    wanted = pictures[:, :, rows[0] : rows[1]]
    torch.testing.assert_close(strips, wanted, rtol=0, atol=1e-11)


def test_without_the_moments_it_is_not(codec: KlCodec) -> None:
    decoder = RowDecoder(codec, Rows(40, 80, 96))
    pictures, moments = decoder.decode_with_moments(latents(1))
    other = decoder.decode_with_moments(latents(1, seed=2) + 0.3)[1]
    for wrong in (torch.zeros_like(moments), other):
        strips = decoder.decode_rows(latents(1), wrong)
        assert (strips - pictures[:, :, 40:80]).abs().max() > 1e-2


def test_sessions_in_one_batch_keep_to_their_own_moments(codec: KlCodec) -> None:
    decoder = RowDecoder(codec, Rows(40, 80, 96))
    given = torch.cat([latents(3, seed=3), latents(3, seed=4) + 0.2])  # two sessions, hop 3
    moments = decoder.decode_with_moments(given[[0, 3]])[1]
    together = decoder.decode_rows(given, moments)
    for session in (0, 1):
        frames = slice(3 * session, 3 * session + 3)
        alone = decoder.decode_rows(given[frames], moments[session : session + 1])
        torch.testing.assert_close(together[frames], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("hop", [1, 2, 3, 4])
def test_a_hop_lends_itself_the_moments_of_its_middle(codec: KlCodec, hop: int) -> None:
    decoder = RowDecoder(codec, Rows(40, 80, 96))
    given = torch.stack([latents(hop, seed=5), latents(hop, seed=6) + 0.2])
    strips = decoder.decode_hops(given)
    assert strips.shape == (2, hop, 3, 40, 64)
    moments = decoder.decode_with_moments(given[:, hop // 2])[1]
    for session in (0, 1):
        lent = decoder.decode_rows(given[session], moments[session : session + 1])
        torch.testing.assert_close(strips[session], lent, rtol=0, atol=1e-11)
        alone = decoder.decode_hops(given[session : session + 1])
        torch.testing.assert_close(alone[0], strips[session], rtol=0, atol=1e-12)


def test_single_precision_holds_to_its_rounding(codec: KlCodec) -> None:
    single = KlCodec(SMALL).eval().requires_grad_(False)
    single.load_state_dict(codec.state_dict())
    decoder = RowDecoder(single, Rows(40, 80, 96))
    pictures, moments = decoder.decode_with_moments(latents(1).float())
    assert moments.dtype == torch.float32
    strips = decoder.decode_rows(latents(1).float(), moments)
    assert (strips - pictures[:, :, 40:80]).abs().max() < 1e-4 * pictures.abs().max()


def test_a_decoder_without_norms_needs_no_moments() -> None:
    torch.manual_seed(0)
    tiny = TaesdCodec(TAESD).double().requires_grad_(False)
    decoder = RowDecoder(tiny, Rows(40, 80, 96), whole_levels=0)
    pictures, moments = decoder.decode_with_moments(latents(2))
    assert moments.numel() == 0
    strips = decoder.decode_rows(latents(2), moments)
    torch.testing.assert_close(strips, pictures[:, :, 40:80], rtol=0, atol=1e-13)
    with FlopCounterMode(display=False) as by_rows:
        decoder.decode_rows(latents(2), moments)
    with FlopCounterMode(display=False) as by_hops:
        assert torch.equal(decoder.decode_hops(latents(2)[None])[0], strips)
    assert by_hops.get_total_flops() == by_rows.get_total_flops()


def test_shapes_are_static_for_a_compiler(codec: KlCodec) -> None:
    decoder = RowDecoder(codec, Rows(40, 80, 96))
    _, moments = decoder.decode_with_moments(latents(2))
    traced = torch.compile(decoder.decode_rows, backend="eager", fullgraph=True, dynamic=False)
    strips = decoder.decode_rows(latents(2), moments)
    torch.testing.assert_close(traced(latents(2), moments), strips, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("spec", "resolution", "gflop"),
    [(CodecSpec(), 256, 379), (CodecSpec(), 512, 1469), (TAESD, 256, 21), (TAESD, 512, 80)],
)
def test_the_published_mask_leaves_a_part_to_decode(
    spec: CodecSpec, resolution: int, gflop: int
) -> None:
    rows = Rows.shown(paste_weights(latentsync_face(resolution), resolution))
    size = resolution // spec.downscale
    with torch.device("meta"):
        codec = KlCodec(spec) if spec.kind == "kl" else TaesdCodec(spec)
        decoder = RowDecoder(codec, rows)
        given, moments = torch.zeros(1, 4, size, size), torch.zeros(1, *decoder.moments_shape)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        strips = decoder.decode_rows(given, moments)
    assert strips.shape == (1, 3, rows.count, resolution)
    assert round(counter.get_total_flops() / 1e9) == gflop


def test_moments_of_another_shape_are_refused(codec: KlCodec) -> None:
    decoder = RowDecoder(codec, Rows(40, 80, 96))
    norms = decoder.moments_shape[0]
    for shape in ((1, norms + 1, 4, 4), (2, norms, 4, 4)):
        with pytest.raises(ConfigError, match="for 3 latents, got"):
            decoder.decode_rows(latents(3), torch.zeros(shape, dtype=torch.float64))
