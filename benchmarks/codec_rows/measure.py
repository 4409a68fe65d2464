"""Decodes of some rows against decodes of the whole, by where the other rows' moments are from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.decode_rows import Rows
from engine.models.decoder_walk import RecordingWalk, RowWalk, group_moments, normalised
from engine.models.kl_vae import KlCodec
from engine.models.row_decoder import RowDecoder

LEVELS = 127.5  # 8-bit levels in a unit of the decoder's output


@dataclass(frozen=True, slots=True)
class Difference:
    """8-bit levels between decodes, over frames, before rounding.

    Attributes:
        rows_max: largest in the rows that the mask shows.
        rows_mean: mean in them.
        frame_median: median over frames of each frame's largest.
        pasted_max: largest after weighting with the paste mask, that is in the final picture.
        seam_max: largest step that it adds between neighbours where the mask fades out.
        under_one: share of frames whose final picture is nowhere off by a level.
    """

    rows_max: float
    rows_mean: float
    frame_median: float
    pasted_max: float
    seam_max: float
    under_one: float


class FrozenWalk(RowWalk):
    """Takes the moments it is given for those of the whole picture."""

    def norm(self, module: nn.GroupNorm, x: Tensor) -> Tensor:
        moments = self._moments.get(self._at)
        if moments is None:
            return super().norm(module, x)
        self._at += 1
        return normalised(module, x, moments)


class UnmovedWalk(RowWalk):
    """Takes the moments of the rows left out as they were."""

    def outside(self, inside: Tensor, noted: Tensor, eps: float) -> Tensor:
        return noted[:, 2:]


class NaiveWalk(RowWalk):
    """Takes the moments of the rows at hand for those of the whole picture."""

    def norm(self, module: nn.GroupNorm, x: Tensor) -> Tensor:
        self._at += 1
        return normalised(module, x, group_moments(x, module.num_groups))


class WholeMomentsWalk(RecordingWalk):
    """Notes the moments of all rows in place of those left out."""

    def norm(self, module: nn.GroupNorm, x: Tensor) -> Tensor:
        rows = self._rows[self._norms]
        self._norms += 1
        if not rows.whole:
            self.moments.append(group_moments(x, module.num_groups))
        return module(x)  # type: ignore[no-any-return]


class Clip:
    """One clip, decoded whole, to hold decodes of its rows against.

    Attributes:
        moments: [n, norms, 4, groups] of each frame.
        pictures: [n, 3, R, R], clamped.
        fading: [R, R] the largest step of the paste weights to a neighbour.
    """

    def __init__(
        self, codec: KlCodec, latents: Tensor, weights: Tensor, whole_levels: int = 1
    ) -> None:
        self.codec, self.latents, self.weights = codec, latents, weights
        self.fading = steepest(weights)
        self.decoder = RowDecoder(codec, Rows.shown(weights.cpu().numpy()), whole_levels)
        pictures, moments = [], []
        for frame in torch.split(latents, 1):
            picture, own = self.decoder.decode_with_moments(frame)
            pictures.append(picture)
            moments.append(own)
        self.pictures = torch.cat(pictures).clamp(-1.0, 1.0)
        self.moments = torch.cat(moments)

    def whole_moments(self, frames: Iterable[int]) -> Tensor:
        """[frames, norms, 2, groups] of all rows."""
        made = []
        for frame in frames:
            walk = WholeMomentsWalk(self.codec.steps, self.decoder.plan)
            self.codec.decode(self.latents[frame : frame + 1], walk)
            made.append(torch.stack(walk.moments, dim=1))
        return torch.cat(made)

    def strips(
        self, frames: Iterable[int], moments: Tensor, walk: type[RowWalk] = RowWalk
    ) -> Tensor:
        """The rows of these frames, clamped.

        Args:
            moments: [frames, norms, 4, groups], or 2 of a `FrozenWalk`.
        """
        steps, plan = self.codec.steps, self.decoder.plan
        made = [
            self.codec.decode(self.latents[frame : frame + 1], walk(steps, plan, own[None]))
            for frame, own in zip(frames, moments, strict=True)
        ]
        return torch.cat(made).clamp(-1.0, 1.0)

    def difference(
        self, frames: list[int], moments: Tensor, walk: type[RowWalk] = RowWalk
    ) -> tuple[Difference, Tensor]:
        """How far the strips are from the whole pictures, and by how much where, in levels."""
        rows = self.decoder.rows
        strips = self.strips(frames, moments, walk)
        off = LEVELS * (strips - self.pictures[frames][:, :, rows.first : rows.end]).abs()
        pasted = off * self.weights[rows.first : rows.end]
        by_frame = off.amax(dim=(1, 2, 3))
        summary = Difference(
            rows_max=float(by_frame.max()),
            rows_mean=float(off.mean()),
            frame_median=float(by_frame.median()),
            pasted_max=float(pasted.max()),
            seam_max=float((off * self.fading[rows.first : rows.end]).max()),
            under_one=float((pasted.amax(dim=(1, 2, 3)) < 1.0).float().mean()),
        )
        return summary, off


def steepest(weights: Tensor) -> Tensor:
    """[R, R] the largest difference between a weight and its four neighbours, 0 beyond the edge."""
    framed = F.pad(weights, (1, 1, 1, 1))
    around = (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:])
    return torch.stack([(weights - one).abs() for one in around]).amax(dim=0)


def middle_of_hop(frames: Iterable[int], hop: int) -> list[int]:
    """The frame whose moments `RowDecoder.decode_hops` lends each frame."""
    return [frame - frame % hop + hop // 2 for frame in frames]


def worst(differences: Iterable[Difference]) -> Difference:
    """The largest of every measure; means and shares are averaged."""
    every = list(differences)

    def largest(of: Callable[[Difference], float]) -> float:
        return max(of(one) for one in every)

    return Difference(
        rows_max=largest(lambda one: one.rows_max),
        rows_mean=sum(one.rows_mean for one in every) / len(every),
        frame_median=largest(lambda one: one.frame_median),
        pasted_max=largest(lambda one: one.pasted_max),
        seam_max=largest(lambda one: one.seam_max),
        under_one=sum(one.under_one for one in every) / len(every),
    )
