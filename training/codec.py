"""Trains the picture codec: PCA of 8x8 patches, then a small decoder that adds what PCA loses.

    python -m training.codec --minutes 12

The encoder stays the linear PCA: a latent error is then the picture's error in
the subspace, so that the denoiser's loss in latents is a loss in pixels, and
one scale for all channels keeps it that way (whitening would not).
"""

from __future__ import annotations

import argparse
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.media import U8
from engine.models.tiny_codec import TinyCodec
from engine.spec import CodecSpec
from training.dataset import CORPUS_FOLDER, TRAIN_FOLDER, CropStore, mouth_weight, to_tensor
from training.optimise import Recipe, Run, step_generator

log = logging.getLogger(__name__)

LATENT_STD = 1.0  # of the scaled latents, over all channels
LATENT_NOISE = 0.04  # added in training: the denoiser's latents are never exact
MOUTH_GAIN = 10.0  # of the mouth against the rest, which the source warp shows


@dataclass(frozen=True, slots=True)
class Patches:
    """Principal components of picture patches.

    Attributes:
        components: [C, 3, d, d] orthonormal.
        mean: [3, d, d].
        std: of the coefficients over all channels.
    """

    components: Tensor
    mean: Tensor
    std: float


def psnr(error_squared: float, peak: float = 2.0) -> float:
    """dB of a mean squared error of pictures whose values span `peak`."""
    return 10 * math.log10(peak * peak / max(error_squared, 1e-12))


def patch_components(crops: U8, channels: int, size: int, mouth_gain: float) -> Patches:
    """PCA of the patches of `crops` [n, R, R, 3], those of the mouth counted more."""
    flat = F.unfold(to_tensor(crops), size, stride=size).transpose(1, 2)  # [n, cells, 3 d d]
    weight = F.avg_pool2d(mouth_weight(crops.shape[1], mouth_gain)[None, None], size).flatten()
    weight = weight / weight.mean()
    mean = (flat * weight[:, None]).mean(dim=(0, 1))
    centred = ((flat - mean) * weight.sqrt()[:, None]).flatten(0, 1).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(centred))
    top = vectors[:, -channels:].flip(1).T.float()
    std = float((values[-channels:].sum() / channels).sqrt())
    return Patches(top.reshape(channels, 3, size, size), mean.reshape(3, size, size), std)


def fresh_codec(spec: CodecSpec, crops: U8) -> TinyCodec:
    """A codec whose linear path is the PCA of `crops`, scaled to `LATENT_STD`."""
    patches = patch_components(crops, spec.latent_channels, spec.downscale, MOUTH_GAIN)
    codec = TinyCodec(replace(spec, scaling_factor=LATENT_STD / patches.std))
    codec.set_linear(patches.components, patches.mean)
    return codec


def picture_loss(output: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """L1 plus L1 of gradients at two scales, weighted by place.

    Args:
        output, truth: [n, 3, R, R].
        weight: [R, R], mean 1.
    """
    loss = (weight * (output - truth).abs()).mean()
    for pool in (1, 2):
        a, b, w = output, truth, weight[None, None]
        if pool > 1:
            a, b, w = (F.avg_pool2d(item, pool) for item in (a, b, w))
        for axis in (-1, -2):
            edge = w.narrow(axis, 1, w.shape[axis] - 1)
            loss = loss + 0.5 * (edge * (a.diff(dim=axis) - b.diff(dim=axis)).abs()).mean()
    return loss


@torch.no_grad()
def mouth_psnr(codec: nn.Module, crops: U8, batch: int = 64) -> tuple[float, float]:
    """PSNR in dB of the round trip, in the mouth and over the whole crop."""
    inside = mouth_weight(crops.shape[1], MOUTH_GAIN) > 1.0
    mouth, whole = [], []
    for first in range(0, len(crops), batch):
        image = to_tensor(crops[first : first + batch])
        with torch.autocast("cpu", torch.bfloat16):
            latents = codec.encode(image)  # type: ignore[operator]
            decoded = codec.decode(latents)  # type: ignore[operator]
        error = (decoded.float().clamp(-1, 1) - image).square()
        mouth.append(float(error[..., inside].mean()))
        whole.append(float(error.mean()))
    return psnr(float(np.mean(mouth))), psnr(float(np.mean(whole)))


def train(codec: TinyCodec, store: CropStore, recipe: Recipe, path: Path) -> None:
    """Trains the decoder and saves the codec, averaged, at `path`; resumes."""
    held_out = store.sample(256, split="test", seed=1)
    log.info("linear: mouth %.2f dB, whole %.2f dB", *mouth_psnr(codec, held_out))
    codec.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    weight = mouth_weight(held_out.shape[1], MOUTH_GAIN)
    weight = weight / weight.mean()
    groups = [{"params": list(codec.decoder.parameters()), "scale": 1.0}]
    run = Run(codec, recipe, groups, path.with_suffix(".checkpoint.pt"))
    run.resume()

    def make(number: int) -> Tensor:
        return to_tensor(store.sample(recipe.batch, split="train", seed=1000 + number))

    def publish() -> None:
        averaged = TinyCodec(codec.spec)
        averaged.load_state_dict(run.average.values)
        log.info("mouth %.2f dB, whole %.2f dB", *mouth_psnr(averaged, held_out))
        save(averaged, path)

    for image in run.steps(make, publish):
        random = step_generator(recipe, run.step)
        with torch.no_grad():
            latents = codec.encode(image)
            level = LATENT_NOISE * torch.rand(len(image), 1, 1, 1, generator=random)
            latents = latents + level * torch.randn(latents.shape, generator=random)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = codec.decode(latents.contiguous(memory_format=torch.channels_last))
        loss = picture_loss(decoded.float(), image, weight)
        run.learn(loss, {"loss": loss})


def save(codec: TinyCodec, path: Path) -> None:
    """Writes the weights, and the spec's numbers as metadata."""
    state = {key: value.contiguous() for key, value in codec.state_dict().items()}
    spec = codec.spec
    meta = {
        "latent_channels": spec.latent_channels,
        "width": spec.width,
        "blocks": spec.blocks,
        "scaling_factor": spec.scaling_factor,
    }
    save_file(state, path, {key: str(value) for key, value in meta.items()})


def load(path: Path) -> TinyCodec:
    """The codec that `save` wrote."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        meta = file.metadata()
    spec = CodecSpec(
        kind="tiny",
        latent_channels=int(meta["latent_channels"]),
        width=int(meta["width"]),
        blocks=int(meta["blocks"]),
        scaling_factor=float(meta["scaling_factor"]),
    )
    codec = TinyCodec(spec)
    codec.load_state_dict(load_file(path))
    return codec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--corpus", type=Path, default=CORPUS_FOLDER)
    parser.add_argument("--out", type=Path, default=TRAIN_FOLDER / "codec.safetensors")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    store = CropStore.open(args.corpus / "faces")
    spec = CodecSpec(
        kind="tiny", latent_channels=args.channels, width=args.width, blocks=args.blocks
    )
    codec = fresh_codec(spec, store.sample(4000, split="train", seed=0))
    train(codec, store, Recipe(args.steps, args.batch, args.rate, warmup=50), args.out)


if __name__ == "__main__":
    main()
