"""Trains the denoiser in two phases, each short enough for two CPU cores.

    python -m training.denoiser render --steps 4000
    python -m training.denoiser follow --steps 1500

`render` learns to draw: single frames, without temporal modules, driven by the
true mouth parameters through a stand-in for the audio path, together with the
codec's decoder. `follow` puts the
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
import copy
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.models.whisper import WhisperEncoder
from training import codec as codec_training
from training.audio_encoder import BUNDLED_AUDIO, vary
from training.batches import Batch, clip_batch, frame_batch
from training.dataset import CORPUS_FOLDER, TRAIN_FOLDER, CropStore, SpeechStore, windows_of
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
from training.optimise import Recipe, Run, step_generator
from training.painting import Critic, SeenDifference, latent_loss
from training.regressor import load as load_regressor

log = logging.getLogger(__name__)

TIMESTEP: Final = 999
SHOWN_SHARE: Final = 0.4  # of a batch's frames, decoded and compared as pictures
CLIP_FRAMES: Final = 24  # longer than the window: rings that are full are trained on too
HOPS: Final = (4, 4, 4, 4, 1, 2, 8)  # drawn from at every step
TAUGHT_SHARE: Final = 0.4  # of the clips, told their mouth: keeps the drawing sharp
# Shares of the learning rate: the temporal modules begin from nothing, `render` has trained
# the rest; the audio path's first layer sums 5,120 inputs and is moved by small steps.
NEW_RATE: Final = 1.0
DECODER_RATE: Final = 0.3
DRAWN_RATE: Final = 0.25
HEARING_RATE: Final = 0.02
CHANGE_WEIGHT: Final = 0.5  # of the loss on frame differences
HEARING_WEIGHT: Final = 0.05  # of what the audio path mishears


@dataclass(frozen=True, slots=True)
class Paths:
    """Where the corpus and the parts of the model lie while it is trained.

    Attributes:
        codec, drawn_codec: before and after its decoder learned to draw with the network.
        reader: of mouths, for the perceptual loss.
    """

    faces: Path
    speech: Path
    codec: Path
    drawn_codec: Path
    encoder: Path
    reader: Path
    drawn: Path
    out: Path

    @classmethod
    def under(cls, folder: Path, corpus: Path) -> Paths:
        return cls(
            corpus / "faces",
            corpus / "speech",
            folder / "codec.safetensors",
            folder / "drawn_codec.safetensors",
            folder / "audio_encoder.safetensors",
            folder / "reader.safetensors",
            folder / "render.safetensors",
            folder / "denoiser.safetensors",
        )


def network_input(batch: Batch, noise: Tensor) -> Tensor:
    """[b, 3C+1, f, s, s]: the network's input; `noise` [b, C, s, s] is the same in all frames."""
    runs, frames = batch.whole.shape[:2]
    mask = batch.mask.expand(runs, frames, 1, *batch.mask.shape[-2:])
    still = noise[:, None].expand_as(batch.whole)
    return torch.cat([still, mask, batch.masked, batch.reference], dim=2).transpose(1, 2)


def seen_difference(path: Path) -> SeenDifference:
    """The perceptual loss on the reader of mouths at `path`."""
    return SeenDifference(load_regressor(path))


class Painter(nn.Module):
    """The U-Net and the codec's decoder, which learn to draw together."""

    def __init__(self, unet: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.unet, self.decoder = unet, decoder


def average_of(run: Run, part: str) -> dict[str, Tensor]:
    """The averaged weights of the run's submodule `part`."""
    values = run.average.values.items()
    return {k.removeprefix(f"{part}."): v for k, v in values if k.startswith(f"{part}.")}


def render_phase(recipe: Recipe, paths: Paths) -> None:
    """Learns to draw mouths; writes averaged weights, resumes."""
    codec = codec_training.load(paths.codec).train()
    spec = bundled_unet_spec(codec.spec.latent_channels)
    torch.manual_seed(recipe.seed)
    unet = drawing_unet(spec)
    painter = Painter(unet, codec.decoder)
    painter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    critic = Critic(codec, seen_difference(paths.reader))
    groups = [
        {"params": list(unet.parameters()), "scale": 1.0},
        {"params": list(codec.decoder.parameters()), "scale": DECODER_RATE},
    ]
    run = Run(painter, recipe, groups, paths.drawn.with_suffix(".checkpoint.pt"))
    run.resume()
    store = CropStore.open(paths.faces)

    def make(number: int) -> Batch:
        return frame_batch(store, codec, recipe.batch, "train", number)

    def publish() -> None:
        nonlocal store
        save_file({k: v.contiguous() for k, v in average_of(run, "unet").items()}, paths.drawn)
        drawn = copy.deepcopy(codec)
        drawn.decoder.load_state_dict(average_of(run, "decoder"))
        codec_training.save(drawn, paths.drawn_codec)
        store = CropStore.open(paths.faces)  # more may have been rendered

    timestep = torch.full((recipe.batch,), float(TIMESTEP))
    shown = torch.arange(round(recipe.batch * SHOWN_SHARE))
    for batch in run.steps(make, publish):
        random = step_generator(recipe, run.step)
        noise = torch.randn(batch.whole[:, 0].shape, generator=random)
        audio = mouth_tokens(batch.mouth[:, 0], spec.cross_attention_dim)[:, None]
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(network_input(batch, noise), timestep, audio)
        errors = critic(predicted.float().transpose(1, 2), batch, shown)
        run.learn(errors.total, errors.named())


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
    codec = codec_training.load(paths.drawn_codec).eval().requires_grad_(False)
    spec = bundled_unet_spec(codec.spec.latent_channels)
    encoder = WhisperEncoder(BUNDLED_AUDIO).eval()
    encoder.load_state_dict(load_file(paths.encoder))
    store, speech = CropStore.open(paths.faces), SpeechStore(BUNDLED_AUDIO, paths.speech)
    torch.manual_seed(recipe.seed)
    reading = read_mouth_linearly(encoder, store, speech)
    unet = following_unet(spec, paths.drawn, reading)
    unet = unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    film = unet.audio_film
    assert isinstance(film, TaughtFilm)
    critic = Critic(codec, seen_difference(paths.reader))
    run = Run(unet, recipe, grouped(unet), paths.out.with_suffix(".checkpoint.pt"))
    run.resume()

    def make(number: int) -> Batch:
        shape = (recipe.batch, CLIP_FRAMES)
        return clip_batch(store, speech, codec, shape, "train", number)

    def publish() -> None:
        save_file(exported(widened(run.average.values, reading)), paths.out)

    publish()
    frames = recipe.batch * CLIP_FRAMES
    timestep = torch.full((recipe.batch,), float(TIMESTEP))
    for batch in run.steps(make, publish):
        random = step_generator(recipe, run.step)
        hop = HOPS[int(torch.randint(len(HOPS), (), generator=random))]
        assert batch.power is not None
        mel = windows_of(vary(batch.power, random), BUNDLED_AUDIO)
        told = torch.rand(recipe.batch, generator=random) < TAUGHT_SHARE
        told = told[:, None].expand(-1, CLIP_FRAMES).flatten()[:, None]
        film.taught = (batch.mouth.flatten(0, 1), told)
        noise = torch.randn(batch.whole[:, 0].shape, generator=random)
        shown = torch.randperm(frames, generator=random)[: round(frames * SHOWN_SHARE)]
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                tokens = encoder(mel.flatten(0, 1))
                tokens = tokens.reshape(*mel.shape[:2], *tokens.shape[1:])
            predicted = unet.forward_clip(network_input(batch, noise), timestep, tokens, hop)
        predicted = predicted.float().transpose(1, 2)
        errors = critic(predicted, batch, shown)
        latents = predicted[:, :, : spec.out_channels]
        change = latent_loss(latents.diff(dim=1), batch.whole.diff(dim=1), critic.latent_weight)
        total = errors.total + CHANGE_WEIGHT * change + HEARING_WEIGHT * film.misheard
        run.learn(total, errors.named() | {"change": change, "misheard": film.misheard})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("phase", choices=("render", "follow"))
    parser.add_argument("--steps", type=int, help="of the whole phase")
    parser.add_argument("--batch", type=int, help="frames (render) or clips (follow) a step")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--corpus", type=Path, default=CORPUS_FOLDER)
    parser.add_argument("--folder", type=Path, default=TRAIN_FOLDER)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    paths = Paths.under(args.folder, args.corpus)
    if args.phase == "render":
        render_phase(Recipe(args.steps or 4000, args.batch or 48, args.rate or 1e-3), paths)
    else:
        recipe = Recipe(args.steps or 1500, args.batch or 3, args.rate or 6e-4, seed=2)
        follow_phase(recipe, paths)


if __name__ == "__main__":
    main()
