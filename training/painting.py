"""From the denoiser's prediction to the picture that is shown, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.models.tiny_codec import TinyCodec
from engine.spec import WARP_CHANNELS
from training.batches import Batch, keep_pixels
from training.codec import picture_loss
from training.dataset import MOUTH_BOX, mouth_weight
from training.mouth import CLOSURE
from training.regressor import MouthRegressor
from training.source_warp import SourceWarp, covered

MOUTH_GAIN: Final = 4.0
OUTSIDE_WEIGHT: Final = 0.05  # outside of the mask nothing is shown
# Weights of the losses that stand beside the one on latents.
PICTURE_WEIGHT: Final = 2.0
MOTION_WEIGHT: Final = 2.0
COVER_WEIGHT: Final = 0.02  # of covering what lies outside of the mouth's box
SEEN_WEIGHT: Final = 0.3  # of the features in which a reader of mouths sees a difference
READ_WEIGHT: Final = 4.0  # of what it reads
# Of the mouth parameters: a few pixels show that lips close or bite, and everybody sees it.
READ_PARAMETERS: Final = (1.0, 0.5, 0.5, 2.0, 1.0, 0.5, 0.5)
SHUT_GAIN: Final = 3.0  # of closure where the lips are shut: a few frames in a hundred
CODEC_WEIGHT: Final = 0.5  # of the decoder's pictures of true latents: the codec stays one
CODEC_FRAMES: Final = 6


def pixel_weight(mask: Tensor) -> Tensor:
    """[R, R] loss weights with mean 1: the mouth most, outside of the mask hardly.

    Args:
        mask: [R, R] 1 = keep.
    """
    weight = mouth_weight(mask.shape[0], MOUTH_GAIN) * (1.0 - mask).clamp(min=OUTSIDE_WEIGHT)
    return weight / weight.mean()


def latent_weight(mask: Tensor, factor: int) -> Tensor:
    """[s, s] the same for latents of `factor` pixels."""
    inside = F.avg_pool2d(1.0 - mask[None, None], factor)[0, 0]
    weight = F.avg_pool2d(mouth_weight(mask.shape[0], MOUTH_GAIN)[None, None], factor)[0, 0]
    weight = weight * inside.clamp(min=OUTSIDE_WEIGHT)
    return weight / weight.mean()


def latent_loss(predicted: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 with a little L2, over [..., s, s]."""
    error = predicted - truth
    return (weight * (error.abs() + 0.5 * error.square())).mean()


class SeenDifference(nn.Module):
    """What a frozen reader of mouths sees and reads differ between two pictures.

    A perceptual loss as of Johnson et al. 2016, on features that tell mouths apart, and beside it
    the mouth that is read in the end. The reader is not the judge that scores the model.
    """

    def __init__(self, reader: MouthRegressor) -> None:
        super().__init__()
        layers = list(reader.body.children())
        self.layers = nn.ModuleList(layers[:6]).eval().requires_grad_(False)
        self.reading: nn.Module = nn.Sequential(*layers[6:]).eval().requires_grad_(False)

    def forward(self, shown: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """How pictures [n, 3, R, R] differ: in normed features, and in the mouths that are read.

        Returns:
            The mean difference over three scales, and the weighted one of the parameters.
        """
        loss = shown.new_zeros(())
        for layer in self.layers:
            shown, truth = layer(shown), layer(truth)
            if not isinstance(layer, nn.Conv2d):
                spread = truth.float().std(dim=(0, 2, 3), keepdim=True) + 1e-3
                loss = loss + ((shown - truth).float() / spread).abs().mean()
        read, true = self.reading(shown).float(), self.reading(truth).float()
        weights = torch.tensor(READ_PARAMETERS).expand_as(true).clone()
        weights[:, CLOSURE] *= 1.0 + (SHUT_GAIN - 1.0) * true[:, CLOSURE].clamp(0.0, 1.0)
        misread = F.smooth_l1_loss(read, true, beta=0.1, reduction="none")
        return loss, (weights * misread).mean()


@dataclass(frozen=True, slots=True)
class Errors:
    """What is wrong with a prediction; `total` is what is minimised."""

    latents: Tensor
    motion: Tensor
    picture: Tensor
    seen: Tensor
    read: Tensor
    total: Tensor

    def named(self) -> dict[str, Tensor]:
        """The single errors, for the log."""
        return {
            "latents": self.latents,
            "motion": self.motion,
            "picture": self.picture,
            "seen": self.seen,
            "read": self.read,
        }


class Critic:
    """Compares predictions with a batch's truth: latents, motion, and pictures of some frames."""

    def __init__(self, codec: TinyCodec, seen: SeenDifference) -> None:
        mask = keep_pixels()
        self.codec, self.seen = codec, seen
        self.latent_weight = latent_weight(mask, codec.spec.downscale)
        self.pixel_weight = pixel_weight(mask)
        left, top, right, bottom = (round(edge * mask.shape[0] / 2) for edge in MOUTH_BOX)
        self.elsewhere = torch.ones(mask.shape[0] // 2, mask.shape[0] // 2)
        self.elsewhere[top:bottom, left:right] = 0.0  # cover values are two pixels wide

    def __call__(self, predicted: Tensor, batch: Batch, shown: Tensor) -> Errors:
        """The errors of a prediction.

        Args:
            predicted: [b, f, C + 18, s, s].
            shown: indices among the b * f frames whose pictures are compared.
        """
        latents, channels = predicted[:, :, :-WARP_CHANNELS], predicted[:, :, -WARP_CHANNELS:]
        drawn = latent_loss(latents, batch.whole, self.latent_weight)
        warp = SourceWarp.of(channels.flatten(0, 1))
        motion = latent_loss(warp.motion, batch.motion.flatten(0, 1), self.latent_weight)
        covers = (F.softplus(warp.cover) * self.elsewhere).mean()
        few = SourceWarp(warp.motion[shown], warp.cover[shown])
        truth, source = (images.flatten(0, 1)[shown] for images in (batch.pictures, batch.sources))
        exact = batch.whole.flatten(0, 1)[shown[:CODEC_FRAMES]]
        with torch.autocast("cpu", torch.bfloat16):
            decoded = self.codec.decode(torch.cat([latents.flatten(0, 1)[shown], exact])).float()
        picture = covered(few, decoded[: len(shown)], source)
        pixels = picture_loss(picture, truth, self.pixel_weight)
        trip = picture_loss(decoded[len(shown) :], truth[:CODEC_FRAMES], self.pixel_weight)
        with torch.autocast("cpu", torch.bfloat16):
            seen, read = self.seen(picture, truth)
        total = drawn + MOTION_WEIGHT * motion + COVER_WEIGHT * covers
        total = total + PICTURE_WEIGHT * pixels + SEEN_WEIGHT * seen + READ_WEIGHT * read
        total = total + CODEC_WEIGHT * trip
        return Errors(drawn, motion, pixels, seen, read, total)
