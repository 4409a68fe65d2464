"""What a hop must compute: floating-point operations by stage, counted on the meta device.

2 x multiply-add of convolutions, linear layers and attention; nothing is allocated or run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.measure import count_flops
from engine.face.mask import paste_weights
from engine.models.build import build_audio_encoder, build_codec, build_unet
from engine.models.decode_rows import Rows
from engine.models.row_decoder import RowDecoder
from engine.models.tiny_codec import TinyCodec
from engine.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class HopFlops:
    """Operations of one hop of one session.

    Attributes:
        unet: of all steps.
        decode: of the shown rows alone where the codec decodes so, without the whole decoding
            that every so many hops give its moments.
        encode: of two codec encodings a frame, masked and whole: none for a prepared avatar.
    """

    audio: int
    unet: int
    decode: int
    encode: int

    @property
    def hop(self) -> int:
        """Without the encodings: a prepared avatar."""
        return self.audio + self.unet + self.decode


class FlopCounter:
    """Counts for one model; the networks are built once, on the meta device."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        with torch.device("meta"):
            self._unet = build_unet(spec)
            self._codec = build_codec(spec)
            self._audio = build_audio_encoder(spec)
        self._counted: dict[tuple[object, ...], int] = {}

    def hop(self, way: ModelSpec, hop: int, *, refresh: bool = False) -> HopFlops:
        """The operations of one hop in the steady state.

        Args:
            way: how the model is run.
            refresh: one that computes the whole window anew.
        """
        spec = self._spec
        mel = _meta(hop, spec.audio.n_mels, spec.audio.mel_frames)
        image = _meta(hop, 3, spec.resolution, spec.resolution)
        latents = _meta(hop, spec.codec.latent_channels, spec.latent_size, spec.latent_size)
        windowed = refresh or way.carry == "pinned"
        unet = 0
        for step in range(len(way.timesteps)):
            branches = 2 if way.guided(step) else 1
            unet += self.window(way.window_frames if windowed else hop, branches, way, hop)
        return HopFlops(
            audio=self._count(("audio", hop), lambda: self._audio(mel)),
            unet=unet,
            decode=self._count(("decode", hop), lambda: self._decode(latents)),
            encode=2 * self._count(("encode", hop), lambda: self._codec.encode(image)),
        )

    def window(self, frames: int, batch: int, way: ModelSpec, hop: int) -> int:
        """The operations of one pass of the U-Net.

        Args:
            frames: that are computed: of a whole window, or the hop's own, which in the modes
                with rings also attend to the carried ones.
        """
        spec, size = self._spec, self._spec.latent_size
        sample = _meta(batch, spec.unet.in_channels, frames, size, size)
        time = _meta(batch)
        tokens = _meta(batch, frames, spec.audio.tokens, spec.audio.width)
        context = way.window_frames - hop
        if frames != hop or way.carry not in ("carry", "causal") or context == 0:
            key: tuple[object, ...] = ("window", frames, batch)
            return self._count(key, lambda: self._unet(sample, time, tokens))
        rings = [_meta(batch, 2, context, *rest) for rest in self._unet.ring_shapes(size)]
        rings += [_meta(batch, 2, context, groups) for groups in self._unet.moment_shapes()]
        valid = _meta(batch, context)
        key = ("hop", frames, batch, context)
        return self._count(key, lambda: self._unet.forward_hop(sample, time, tokens, valid, rings))

    def _decode(self, latents: Tensor) -> Tensor:
        spec = self._spec
        if not spec.codec.decode_rows or isinstance(self._codec, TinyCodec):
            return self._codec.decode(latents)
        rows = Rows.shown(paste_weights(spec.face, spec.resolution))
        decoder = RowDecoder(self._codec, rows)
        return decoder.decode_rows(latents, _meta(1, *decoder.moments_shape))

    def _count(self, key: tuple[object, ...], call: Callable[[], object]) -> int:
        if key not in self._counted:
            self._counted[key] = count_flops(call)
        return self._counted[key]


def _meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")
