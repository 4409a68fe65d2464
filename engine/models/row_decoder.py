"""Decoding only the rows of a picture that are shown.

The paste mask shows some rows of the generated crop; the rest of it is the
source picture. A `RowDecoder` computes those rows alone:

    decoder = RowDecoder(codec, Rows.shown(paste_weights(spec.face, spec.resolution)))
    strips = decoder.decode_hops(latents)          # [b, h, 3, rows, R] of [b, h, C, s, s]
    canvas[..., decoder.rows.first : decoder.rows.end, :] = strips

Group norms pool over the whole picture, so the moments of the rows left out
come from a whole decode of another frame: the middle one of the hop, or with
`decode_with_moments` and `decode_rows` any one. The nearer in time, the nearer
to the whole decode: docs/numerics.md has the figures, and moments that are
many frames old do not hold a level of 8 bits. A decoder without norms
(`TaesdCodec`, `KlTaesdCodec`) carries nothing and is exact.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from engine.errors import ConfigError
from engine.models.decode_rows import Rows, Step, cut_norms, plan_rows
from engine.models.decoder_walk import RecordingWalk, RowWalk, WholeWalk
from engine.spec import CodecSpec


class WalkedCodec(Protocol):
    """A codec whose decoder can be run row by row: `KlCodec`, `TaesdCodec`, `KlTaesdCodec`."""

    spec: CodecSpec

    @property
    def steps(self) -> tuple[Step, ...]: ...

    def decode(self, latents: Tensor, walk: WholeWalk = ...) -> Tensor: ...


class RowDecoder:
    """A codec's decoder and the rows that it is asked for. Holds no weights and no state.

    Shapes are static, so that a call can be compiled and captured.

    Attributes:
        rows: of the picture, that `decode_rows` gives.
        plan: the rows held before the decoder's first step and after each.
        moments_shape: of one session's carried moments: (norms, 4, groups), float32; no norms
            for a decoder without any.
    """

    def __init__(self, codec: WalkedCodec, rows: Rows, whole_levels: int = 1) -> None:
        """A decoder of `rows`.

        Args:
            whole_levels: so many resolutions, the lowest first, are computed whole.

        Raises:
            ConfigError: the picture's height is no multiple of the codec's downscale.
        """
        self._codec = codec
        self.rows = rows
        self.plan = plan_rows(codec.steps, rows, whole_levels)
        norms = len(cut_norms(codec.steps, self.plan))
        self.moments_shape = (norms, 4, codec.spec.norm_num_groups)

    def decode_with_moments(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Whole pictures, and what `decode_rows` needs to know of their other rows.

        Args:
            latents: [n, C, s, s], scaled.

        Returns:
            [n, 3, R, R], not clamped, and moments [n, *moments_shape].
        """
        walk = RecordingWalk(self._codec.steps, self.plan)
        pictures = self._codec.decode(latents, walk)
        if not walk.moments:
            return pictures, latents.new_zeros(len(latents), *self.moments_shape).float()
        return pictures, torch.stack(walk.moments, dim=1)

    def decode_rows(self, latents: Tensor, moments: Tensor) -> Tensor:
        """The rows of pictures, not clamped.

        Args:
            latents: [b * h, C, s, s], scaled: h frames of each of b sessions, session by session.
            moments: [b, *moments_shape] of a frame of each session.

        Returns:
            [b * h, 3, rows, R]. Exactly those rows of `decode` where the moments are the frames'
            own; how far from it with those of an earlier frame, docs/numerics.md says.

        Raises:
            ConfigError: moments of another shape.
        """
        sessions, frames = len(moments), len(latents)
        if moments.shape[1:] != self.moments_shape or frames % sessions:
            raise ConfigError(
                f"expected moments [b, {', '.join(map(str, self.moments_shape))}] for {frames} "
                f"latents, got {tuple(moments.shape)}"
            )
        each = moments.repeat_interleave(frames // sessions, dim=0)
        return self._codec.decode(latents, RowWalk(self._codec.steps, self.plan, each))

    def decode_hops(self, latents: Tensor) -> Tensor:
        """The rows of the pictures of hops, with nothing carried between calls.

        The frame in the middle of a hop is decoded whole and lends the others its moments, so
        that none is further than half a hop from the frame that they are of. Without norms no
        frame is decoded whole.

        Args:
            latents: [b, h, C, s, s], scaled.

        Returns:
            [b, h, 3, rows, R], not clamped.
        """
        sessions, hop = latents.shape[:2]
        if self.moments_shape[0] == 0:
            none = latents.new_zeros(sessions, *self.moments_shape)
            strips = self.decode_rows(latents.flatten(0, 1), none)
            return strips.reshape(sessions, hop, *strips.shape[1:])
        middle = hop // 2
        pictures, moments = self.decode_with_moments(latents[:, middle])
        rows = pictures[:, None, :, self.rows.first : self.rows.end]
        if hop == 1:
            return rows
        others = torch.cat([latents[:, :middle], latents[:, middle + 1 :]], dim=1)
        strips = self.decode_rows(others.flatten(0, 1), moments)
        strips = strips.reshape(sessions, hop - 1, *strips.shape[1:])
        return torch.cat([strips[:, :middle], rows, strips[:, middle:]], dim=1)
