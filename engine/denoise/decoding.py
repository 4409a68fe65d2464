"""From a hop's clean latents to its pictures: whole ones, or the rows that are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from engine.denoise.model import TorchModel
from engine.face.mask import paste_weights
from engine.models.decode_rows import Rows
from engine.models.row_decoder import RowDecoder
from engine.models.tiny_codec import TinyCodec
from engine.spec import ModelSpec

# Hops from one whole decode of a session to the next: their rows outside of the mask give the
# moments that decoding the rows inside reads (docs/numerics.md, the codec).
WHOLE_EVERY_HOPS = 25


class Decoder:
    """Runs a model's codec over the frames of hops. Static shapes, no state of its own.

    Attributes:
        moments_shape: of what one session carries between hops; (0,) where it carries nothing.
    """

    def __init__(self, model: TorchModel, spec: ModelSpec, wrap: Callable[[Any], Any]) -> None:
        self._codec = model.codec
        self._dtype = model.dtype
        self._rows: RowDecoder | None = None
        self.moments_shape: tuple[int, ...] = (0,)
        if spec.codec.decode_rows and not isinstance(model.codec, TinyCodec):
            shown = Rows.shown(paste_weights(spec.face, spec.resolution))
            self._rows = RowDecoder(model.codec, shown)
            self.moments_shape = self._rows.moments_shape
            self._decode_rows = wrap(self._rows.decode_rows)
        self._decode = wrap(model.codec.decode)

    def whole_due(self, hops: int) -> bool:
        """Whether the next hop of a session that made `hops` is decoded whole."""
        return self._rows is None or hops % WHOLE_EVERY_HOPS == 0

    def whole(self, latents: Tensor, moments: Tensor, slots: Tensor) -> Tensor:
        """uint8 [b, h, R, R, 3] of latents [b, h, C, s, s].

        Args:
            moments: [slots, *moments_shape], where those of each session's last frame are put.
            slots: [b] int64.
        """
        flat = latents.flatten(0, 1).to(self._dtype)
        if self._rows is None:
            return _levels(self._decode(flat), latents)
        pictures, own = self._rows.decode_with_moments(flat)
        moments[slots] = own[latents.shape[1] - 1 :: latents.shape[1]].to(moments.dtype)
        return _levels(pictures, latents)

    def rows(self, latents: Tensor, moments: Tensor, slots: Tensor) -> Tensor:
        """The same with grey where nothing is shown."""
        assert self._rows is not None
        shown, carried = self._rows.rows, moments.index_select(0, slots)
        strips = self._decode_rows(latents.flatten(0, 1).to(self._dtype), carried)
        above, below = shown.first, shown.height - shown.end
        return _levels(torch.nn.functional.pad(strips, (0, 0, above, below)), latents)


def _levels(images: Tensor, latents: Tensor) -> Tensor:
    levels = (images.float() * 127.5 + 128.0).clamp(0.0, 255.0).to(torch.uint8)
    hops = levels.permute(0, 2, 3, 1)
    return hops.reshape(*latents.shape[:2], *hops.shape[1:]).contiguous()
