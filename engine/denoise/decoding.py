"""From a hop's clean latents to its pictures: whole ones, or the rows that are shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from engine.denoise.model import TorchModel
from engine.face.mask import paste_weights
from engine.models.decode_rows import Rows
from engine.models.row_decoder import RowDecoder
from engine.models.tiny_codec import TinyCodec
from engine.spec import ModelSpec


class Decoder:
    """Runs a model's codec over the frames of hops. Static shapes, no state."""

    def __init__(self, model: TorchModel, spec: ModelSpec, wrap: Callable[[Any], Any]) -> None:
        """A decoder.

        Args:
            wrap: put around what is called, for example `torch.compile`.
        """
        self._dtype = model.dtype
        self._decode = wrap(model.codec.decode)
        self._rows: RowDecoder | None = None
        if spec.codec.decode_rows and not isinstance(model.codec, TinyCodec):
            shown = Rows.shown(paste_weights(spec.face, spec.resolution))
            self._rows = RowDecoder(model.codec, shown)
            self._decode_hops = wrap(self._rows.decode_hops)

    def pictures(self, latents: Tensor) -> Tensor:
        """uint8 [b, h, R, R, 3] of latents [b, h, C, s, s], grey where rows are left out."""
        if self._rows is None:
            images = self._decode(latents.flatten(0, 1).to(self._dtype))
        else:
            shown = self._rows.rows
            strips = self._decode_hops(latents.to(self._dtype)).flatten(0, 1)
            images = F.pad(strips, (0, 0, shown.first, shown.height - shown.end))
        levels: Tensor = (images.float() * 127.5 + 128.0).clamp(0.0, 255.0).to(torch.uint8)
        hops = levels.permute(0, 2, 3, 1)
        return hops.reshape(*latents.shape[:2], *hops.shape[1:]).contiguous()
