"""How a decoder is run: over the whole picture, or over some of its rows.

A decoder's blocks are written once and call a walk for whatever depends on
neighbouring rows: `WHOLE` runs them plainly, `RowWalk` runs a plan of
`decode_rows`, and `RecordingWalk` runs the whole picture and takes down what
`RowWalk` needs to know of the rows that it leaves out.

Group norms pool over the picture, of which a `RowWalk` holds a part. The
moments of the other rows come from an earlier frame, moved by as much as those of
the rows at hand have moved since, and are combined by pixel counts. That is
exact where the frame is this one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.decode_rows import Rows, Step, cut_norms


class WholeWalk:
    """All rows; keeps no state."""

    def mark(self) -> int:
        """A place on the way, for `since`."""
        return 0

    def since(self, mark: int, x: Tensor) -> Tensor:
        """Of what was held at `mark`, the rows that are held now."""
        return x

    def norm(self, module: nn.GroupNorm, x: Tensor) -> Tensor:
        return module(x)  # type: ignore[no-any-return]

    def conv(self, module: nn.Conv2d, x: Tensor) -> Tensor:
        """A 3x3 convolution with padding 1."""
        return module(x)  # type: ignore[no-any-return]

    def upsample(self, module: nn.Conv2d, x: Tensor) -> Tensor:
        """A 3x3 convolution, padding 1, of `x` at twice its size."""
        return upsampled_conv(module, x)

    def attention(self, module: nn.Module, x: Tensor) -> Tensor:
        return module(x)  # type: ignore[no-any-return]


WHOLE = WholeWalk()


class RecordingWalk(WholeWalk):
    """All rows; notes the moments of those that a plan holds and of those that it leaves out.

    Attributes:
        moments: per cut norm, [n, 4, groups], float32 at least: mean and variance of the rows
            held, then of the others.
    """

    def __init__(self, steps: Sequence[Step], plan: Sequence[Rows]) -> None:
        self.moments: list[Tensor] = []
        self._rows = [plan[at] for at, step in enumerate(steps) if step == "norm"]
        self._norms = 0

    def norm(self, module: nn.GroupNorm, x: Tensor) -> Tensor:
        rows = self._rows[self._norms]
        self._norms += 1
        if not rows.whole:
            outside = torch.cat([x[:, :, : rows.first], x[:, :, rows.end :]], dim=2)
            parts = (x[:, :, rows.first : rows.end], outside)
            both = [group_moments(part, module.num_groups) for part in parts]
            self.moments.append(torch.cat(both, dim=1))
        return super().norm(module, x)


class RowWalk(WholeWalk):
    """The rows of a plan."""

    def __init__(self, steps: Sequence[Step], plan: Sequence[Rows], moments: Tensor) -> None:
        """A walk that runs once.

        Args:
            moments: [n, norms, 4, groups] as `RecordingWalk` notes them, a norm for each of
                `cut_norms`.
        """
        self._plan = plan
        self._moments = dict(zip(cut_norms(steps, plan), moments.unbind(1), strict=True))
        self._at = 0

    def mark(self) -> int:
        return self._at

    def since(self, mark: int, x: Tensor) -> Tensor:
        return rows_of(x, self._plan[mark], self._plan[self._at])

    def norm(self, module: nn.GroupNorm, x: Tensor) -> Tensor:
        rows, noted = self._plan[self._at], self._moments.get(self._at)
        self._at += 1
        if noted is None:
            return super().norm(module, x)
        inside = group_moments(x, module.num_groups)
        outside = self.outside(inside, noted, module.eps)
        return normalised(module, x, pooled(inside, outside, rows.count / rows.height))

    def outside(self, inside: Tensor, noted: Tensor, eps: float) -> Tensor:
        """Moments [n, 2, groups] of the rows left out.

        A change of light moves the moments of both parts alike.

        Args:
            inside: [n, 2, groups] of the rows held now.
            noted: [n, 4, groups] of both parts, then.
        """
        mean = noted[:, 2] + inside[:, 0] - noted[:, 0]
        var = noted[:, 3] * (inside[:, 1] + eps) / (noted[:, 1] + eps)
        return torch.stack([mean, var], dim=1)

    def conv(self, module: nn.Conv2d, x: Tensor) -> Tensor:
        held, wanted = self._step()
        top, bottom = held.first < wanted.first, held.end > wanted.end
        if top and bottom:  # no border of the picture in sight, so no padding
            x = rows_of(x, held, wanted.grown(1))
            return F.conv2d(x, module.weight, module.bias, padding=(0, 1))
        return rows_of(super().conv(module, x), held, wanted)

    def upsample(self, module: nn.Conv2d, x: Tensor) -> Tensor:
        held, wanted = self._step()
        doubled = Rows(2 * held.first, 2 * held.end, 2 * held.height)
        return rows_of(super().upsample(module, x), doubled, wanted)

    def attention(self, module: nn.Module, x: Tensor) -> Tensor:
        held, wanted = self._step()
        return rows_of(super().attention(module, x), held, wanted)

    def _step(self) -> tuple[Rows, Rows]:
        self._at += 1
        return self._plan[self._at - 1], self._plan[self._at]


def rows_of(x: Tensor, held: Rows, wanted: Rows) -> Tensor:
    """A view of the wanted rows of `x`, which holds `held`."""
    if held == wanted:
        return x
    return x[:, :, wanted.first - held.first : wanted.end - held.first]


def upsampled_conv(module: nn.Conv2d, x: Tensor) -> Tensor:
    """`module` of `x` at twice its size by nearest neighbour, 4 taps a pixel in place of 9.

    Of the nine pixels under the kernel at most four differ, so their weights
    are summed: a transposed convolution of stride 2 with a 4x4 kernel.
    """
    weight = module.weight.transpose(0, 1)
    exact = weight if weight.dtype == torch.float64 else weight.float()
    # The kernel convolved with 2x2 ones, turned round as a transposed convolution reads it.
    kernel = F.avg_pool2d(F.pad(exact.flip(2, 3), (1, 1, 1, 1)), 2, stride=1, divisor_override=1)
    return F.conv_transpose2d(x, kernel.to(weight.dtype), module.bias, stride=2, padding=1)


def group_moments(x: Tensor, groups: int) -> Tensor:
    """[n, 2, groups] mean and variance of [n, c, h, w], in float32 or better."""
    frames, channels, height, width = x.shape
    exact = x if x.dtype == torch.float64 else x.float()
    grouped = exact.view(frames, groups, channels // groups, height, width)
    var, mean = torch.var_mean(grouped, dim=(2, 3, 4), correction=0)
    return torch.stack([mean, var], dim=1)


def pooled(inside: Tensor, outside: Tensor, share: float) -> Tensor:
    """Moments [n, 2, groups] of both parts together; `inside` makes up `share` of the pixels."""
    mean = share * inside[:, 0] + (1.0 - share) * outside[:, 0]
    var = share * (inside[:, 1] + (inside[:, 0] - mean) ** 2) + (1.0 - share) * (
        outside[:, 1] + (outside[:, 0] - mean) ** 2
    )
    return torch.stack([mean, var], dim=1)


def normalised(module: nn.GroupNorm, x: Tensor, moments: Tensor) -> Tensor:
    """What `module` makes of `x` with the moments [n, 2, groups] of its groups."""
    each = module.num_channels // module.num_groups
    mean, var = moments.repeat_interleave(each, dim=2).unbind(1)
    scale = torch.rsqrt(var + module.eps) * module.weight
    shift = module.bias - mean * scale
    normed = torch.addcmul(shift[:, :, None, None], x.to(scale.dtype), scale[:, :, None, None])
    return normed.to(x.dtype)
