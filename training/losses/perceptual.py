"""LPIPS: a distance of pictures in the features of VGG-16.

The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (1801.03924), version 0.1.
Two files: torchvision's VGG-16 (`vgg16-397923af.pth`) and the five learnt weightings of the
package `lpips` (`weights/v0.1/vgg.pth`).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from training.strict_weights import load_renamed

# Convolutions between two poolings, as (channels, how many); the stage before ends with its ReLU.
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
# Of pictures in [-1, 1]: ImageNet's mean and deviation, on that scale.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPS = 1e-10


class Vgg16(nn.Module):
    """The convolutional part, under torchvision's keys `features.0` to `features.28`."""

    def __init__(self, stages: tuple[tuple[int, int], ...] = STAGES) -> None:
        super().__init__()
        convs: dict[str, nn.Module] = {}
        self.stages: list[list[str]] = []
        channels, place = 3, 0
        for width, count in stages:
            names = []
            for _ in range(count):
                convs[str(place)] = nn.Conv2d(channels, width, 3, padding=1)
                names.append(str(place))
                channels, place = width, place + 2  # a ReLU has a number too
            self.stages.append(names)
            place += 1  # and so has the pooling
        self.features = nn.ModuleDict(convs)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The last ReLU's output of every stage, [n, channels, h / 2**stage, w / 2**stage]."""
        outputs = []
        for stage, names in enumerate(self.stages):
            if stage:
                x = F.max_pool2d(x, 2)
            for name in names:
                x = F.relu(self.features[name](x))
            outputs.append(x)
        return outputs


class StageWeights(nn.Module):
    """How much each channel of each stage counts."""

    def __init__(self, stages: tuple[tuple[int, int], ...] = STAGES) -> None:
        super().__init__()
        self.lin = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width, _ in stages)


class PerceptualLoss(nn.Module):
    """LPIPS of pictures."""

    shift: Tensor
    scale: Tensor

    def __init__(self, vgg: Vgg16, weights: StageWeights) -> None:
        super().__init__()
        self.vgg = vgg
        self.weights = weights
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)

    @classmethod
    def load(cls, vgg: Path, weights: Path, device: torch.device | str = "cpu") -> PerceptualLoss:
        """The loss of two published files, frozen, in f32.

        Raises:
            ModelError: a file cannot be read, or its keys differ (StateDictMismatch).
        """
        return cls(
            load_renamed(Vgg16, vgg, _vgg_key, device),
            load_renamed(StageWeights, weights, _stage_key, device),
        ).to(device)

    def forward(self, made: Tensor, truth: Tensor) -> Tensor:
        """[] the mean distance of pictures [n, 3, h, w] in [-1, 1]; no gradient reaches `truth`."""
        with torch.no_grad():
            wanted = self._features(truth)
        distance = made.new_zeros(())
        for ours, theirs, layer in zip(self._features(made), wanted, self.weights.lin, strict=True):
            distance = distance + layer((ours - theirs).square()).mean()
        return distance

    def _features(self, pictures: Tensor) -> list[Tensor]:
        stages = self.vgg((pictures - self.shift) / self.scale)
        return [x / (x.square().sum(dim=1, keepdim=True).sqrt() + EPS) for x in stages]


def _vgg_key(key: str) -> str:
    return "" if key.startswith("classifier.") else key


def _stage_key(key: str) -> str:
    """`lin0.model.1.weight` (a dropout held number 0) is `lin.0.weight` here."""
    head, _, tail = key.partition(".model.1.")
    return f"lin.{head.removeprefix('lin')}.{tail}" if tail else key
