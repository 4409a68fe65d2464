"""Trains the denoiser in two phases, each short enough for two CPU cores.

    python -m training.denoiser render --minutes 30
    python -m training.denoiser follow --minutes 50

`render` learns to draw: single frames, without temporal modules, driven by the
true mouth parameters through a stand-in for the audio path. `follow` puts the
pretrained audio encoder in its place (the encoder's own linear reading of the
mouth becomes the first layer of the audio path, so drawing carries over), adds
the temporal modules and trains on clips of speech, block by block as a stream
will run them.

The denoiser predicts the clean latents from pure noise in one step. At the
served timestep 999 the forward process would leave 7 % of the truth in the
sample, which a stream cannot give: it is left out in training too.
"""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.models.whisper import WhisperEncoder
from training import codec as codec_training
from training.audio_encoder import BUNDLED_AUDIO, vary
from training.dataset import (
    TRAIN_FOLDER,
    ClipBatch,
    CropStore,
    FrameBatch,
    SpeechStore,
    clip_batch,
    frame_batch,
    keep_pixels,
    mouth_weight,
    windows_of,
)
from training.hearing import (
    TaughtFilm,
    bundled_unet_spec,
    drawing_unet,
    exported,
    following_unet,
    mouth_tokens,
    read_mouth_linearly,
    widened,
)
from training.optimise import (
    CHECKPOINT_EVERY_S,
    Average,
    Clock,
    Recipe,
    Run,
    learning_rate,
    prefetched,
)

log = logging.getLogger(__name__)

TIMESTEP: Final = 999
MOUTH_GAIN: Final = 4.0
OUTSIDE_WEIGHT: Final = 0.05  # outside of the mask nothing is shown
CLIP_FRAMES: Final = 16
HOPS: Final = (4, 4, 4, 4, 1, 2, 8)  # drawn from at every step
TAUGHT_SHARE: Final = 0.4  # of the clips, told their mouth: keeps the drawing sharp
# Shares of the learning rate: the temporal modules begin from nothing, `render` has trained
# the rest; the audio path's first layer sums 5,120 inputs and is moved by small steps.
NEW_RATE: Final = 1.0
DRAWN_RATE: Final = 0.25
HEARING_RATE: Final = 0.02
CHANGE_WEIGHT: Final = 0.5  # of the loss on frame differences
HEARING_WEIGHT: Final = 0.05  # of what the audio path mishears


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the parts of the model lie while it is trained."""

    codec: Path
    encoder: Path
    drawn: Path
    out: Path


def latent_weight(mask: Tensor, factor: int) -> Tensor:
    """[s, s] loss weights with mean 1: the mouth most, outside of the mask hardly.

    Args:
        mask: [R, R] 1 = keep.
        factor: pixels per latent.
    """
    inside = F.avg_pool2d(1.0 - mask[None, None], factor)[0, 0]
    weight = F.avg_pool2d(mouth_weight(mask.shape[0], MOUTH_GAIN)[None, None], factor)[0, 0]
    weight = weight * inside.clamp(min=OUTSIDE_WEIGHT)
    return weight / weight.mean()


def latent_loss(predicted: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Weighted L1 with a little L2, over [..., s, s]."""
    error = predicted - truth
    return (weight * (error.abs() + 0.5 * error.square())).mean()


def frame_input(batch: FrameBatch, noise: Tensor) -> Tensor:
    """[n, 3C+1, 1, s, s]: the network's input for single frames."""
    mask = batch.mask.expand(len(noise), 1, *batch.mask.shape[-2:])
    return torch.cat([noise, mask, batch.masked, batch.reference], dim=1)[:, :, None]


def clip_input(batch: ClipBatch, noise: Tensor) -> Tensor:
    """[b, 3C+1, f, s, s] of clips; `noise` [b, C, s, s] is the same in all frames."""
    clips, frames = batch.whole.shape[:2]
    mask = batch.mask.expand(clips, frames, 1, *batch.mask.shape[-2:])
    still = noise[:, None].expand_as(batch.whole)
    return torch.cat([still, mask, batch.masked, batch.reference], dim=2).transpose(1, 2)


def render_phase(recipe: Recipe, paths: Paths) -> None:
    """Learns to draw mouths; writes averaged weights, resumes."""
    codec = codec_training.load(paths.codec).eval()
    spec = bundled_unet_spec(codec.spec.latent_channels)
    torch.manual_seed(1)
    unet = drawing_unet(spec).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = Average(unet, recipe.average)
    optimizer = torch.optim.AdamW(unet.parameters(), weight_decay=0.01)
    run = Run(unet, average, optimizer, paths.drawn.with_suffix(".checkpoint.pt"))
    run.resume()
    clock, saved, mean = Clock(recipe.minutes, run.spent_s), run.spent_s, 0.0
    store = CropStore.open()

    def make(number: int) -> FrameBatch:
        return frame_batch(store, codec, recipe.batch, "train", number)

    weight = latent_weight(keep_pixels(), codec.spec.downscale)
    timestep = torch.full((recipe.batch,), float(TIMESTEP))
    for batch in prefetched(make, run.step):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, run.step, clock.share)
        sample = frame_input(batch, torch.randn_like(batch.whole))
        audio = mouth_tokens(batch.mouth, spec.cross_attention_dim)[:, None]
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(sample, timestep, audio)[:, :, 0]
        loss = latent_loss(predicted.float(), batch.whole, weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.update(unet)
        run.step += 1
        mean += (float(loss.detach()) - mean) * max(0.02, 1 / run.step)
        done = clock.share >= 1.0
        if run.step % 50 == 0:
            log.info("render step %d %.0f s loss %.4f", run.step, clock.spent_s, mean)
        if done or clock.spent_s - saved > CHECKPOINT_EVERY_S:
            saved = run.spent_s = clock.spent_s
            run.save()
            save_file({k: v.contiguous() for k, v in average.values.items()}, paths.drawn)
            store = CropStore.open()
        if done:
            return


def grouped(unet: nn.Module) -> list[dict[str, object]]:
    """The network's parameters as optimiser groups, each with its share of the rate."""
    groups: dict[float, list[Tensor]] = {NEW_RATE: [], DRAWN_RATE: [], HEARING_RATE: []}
    for name, value in unet.named_parameters():
        if "motion_modules" in name:
            groups[NEW_RATE].append(value)
        elif name.startswith("audio_film.linear_1"):
            groups[HEARING_RATE].append(value)
        else:
            groups[DRAWN_RATE].append(value)
    return [{"params": values, "scale": scale} for scale, values in groups.items()]


def follow_phase(recipe: Recipe, paths: Paths) -> None:
    """Learns to follow speech over time; writes averaged weights, resumes."""
    codec = codec_training.load(paths.codec).eval()
    spec = bundled_unet_spec(codec.spec.latent_channels)
    encoder = WhisperEncoder(BUNDLED_AUDIO).eval()
    encoder.load_state_dict(load_file(paths.encoder))
    store, speech = CropStore.open(), SpeechStore(BUNDLED_AUDIO)
    torch.manual_seed(2)
    reading = read_mouth_linearly(encoder, store, speech)
    unet = following_unet(spec, paths.drawn, reading)
    unet = unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    film = unet.audio_film
    assert isinstance(film, TaughtFilm)
    average = Average(unet, recipe.average)
    save_file(exported(widened(average.values, reading)), paths.out)
    optimizer = torch.optim.AdamW(grouped(unet), weight_decay=0.01)
    run = Run(unet, average, optimizer, paths.out.with_suffix(".checkpoint.pt"))
    run.resume()
    clock, saved, mean, missed = Clock(recipe.minutes, run.spent_s), run.spent_s, 0.0, 0.0
    generator = torch.Generator().manual_seed(run.step)

    def make(number: int) -> ClipBatch:
        return clip_batch(store, speech, codec, (recipe.batch, CLIP_FRAMES), "train", number)

    weight = latent_weight(keep_pixels(), codec.spec.downscale)
    for batch in prefetched(make, run.step):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, run.step, clock.share) * group["scale"]
        hop = HOPS[int(torch.randint(len(HOPS), (), generator=generator))]
        mel = windows_of(vary(batch.power, generator), BUNDLED_AUDIO)
        told = torch.rand(recipe.batch, generator=generator) < TAUGHT_SHARE
        told = told[:, None].expand(-1, CLIP_FRAMES).flatten()[:, None]
        film.taught = (batch.mouth.flatten(0, 1), told)
        noise = torch.randn_like(batch.reference[:, 0])
        timestep = torch.full((recipe.batch,), float(TIMESTEP))
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                tokens = encoder(mel.flatten(0, 1))
                tokens = tokens.reshape(*mel.shape[:2], *tokens.shape[1:])
            predicted = unet.forward_clip(clip_input(batch, noise), timestep, tokens, hop)
        predicted = predicted.float().transpose(1, 2)
        loss = latent_loss(predicted, batch.whole, weight)
        change = latent_loss(predicted.diff(dim=1), batch.whole.diff(dim=1), weight)
        optimizer.zero_grad(set_to_none=True)
        total = loss + CHANGE_WEIGHT * change + HEARING_WEIGHT * film.misheard
        total.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        average.update(unet)
        run.step += 1
        mean += (float(loss.detach()) - mean) * max(0.02, 1 / run.step)
        missed += (float(film.misheard.detach()) - missed) * max(0.02, 1 / run.step)
        done = clock.share >= 1.0
        if run.step % 25 == 0:
            figures = (run.step, clock.spent_s, mean, missed)
            log.info("follow step %d %.0f s loss %.4f misheard %.3f", *figures)
        if done or clock.spent_s - saved > CHECKPOINT_EVERY_S:
            saved = run.spent_s = clock.spent_s
            run.save()
            save_file(exported(widened(average.values, reading)), paths.out)
            store = CropStore.open()
        if done:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("phase", choices=("render", "follow"))
    parser.add_argument("--minutes", type=float, default=40.0)
    parser.add_argument("--batch", type=int, help="frames (render) or clips (follow) a step")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--folder", type=Path, default=TRAIN_FOLDER)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    paths = Paths(
        codec=args.folder / "codec.safetensors",
        encoder=args.folder / "audio_encoder.safetensors",
        drawn=args.folder / "render.safetensors",
        out=args.folder / "denoiser.safetensors",
    )
    if args.phase == "render":
        render_phase(Recipe(args.minutes, args.batch or 48, args.rate or 1e-3), paths)
    else:
        follow_phase(Recipe(args.minutes, args.batch or 4, args.rate or 6e-4), paths)


if __name__ == "__main__":
    main()
