"""Turns a bidirectional model into a causal one, whose carry-over is exact.

    python -m training.causal --model FOLDER --out FOLDER --steps 2000 [--clips FOLDER]

A bidirectional model sees all 16 frames of its window, those to come among them: served hop by hop
it must compute the whole window for every hop (mode "pinned"). Its weights run causally as they
are (mode "carry") meet frames that lack their future, and seams. Here they learn to do without:

- blocks of 1, 2, 4 or 8 frames, drawn anew in every step, see themselves and what came before;
- a clip is the model's own rollout through all served steps, from the stream's start to beyond
  its window, so that entries of frames that have left it are met as well; now and then a longer
  one runs through real rings, as the server carries them (`training.causal_rollout`);
- the loss is the distance to the truth and to what the bidirectional model, the teacher, says of
  the same noisy latents, and the change from frame to frame against the truth's own change, at
  the borders of hops most.

Any architecture is converted by the same code: norms per frame or pooled over frames (whose
moments are carried too), temporal layers in both halves, any codec and prediction type. The clips
are the corpus's where the model has its crop of a face, else prepared videos (`training.prepare`).
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import nn

from engine.checkpoints import (
    UNET_FILE,
    load_audio_encoder,
    load_codec,
    load_unet,
    resolve_model,
)
from engine.errors import ConfigError
from engine.models.attention import FeedForward, SpatialTransformer
from engine.spec import ModelSpec
from training.causal_clips import prepared_source
from training.causal_losses import errors_of
from training.causal_rollout import Denoising, clip_forward, stream_forward, window_forward
from training.dataset import CORPUS_FOLDER, CropStore, SpeechStore
from training.derived_model import write_derived_model
from training.model_crops import ClipEncoder, ClipSource, SpokenClips, corpus_source, latent_weight
from training.optimise import Recipe, Run, step_generator
from training.recompute import recompute_in_backward

log = logging.getLogger(__name__)

CHECKPOINT: Final = "causal.checkpoint.pt"
SKIPPED: Final = "skipped.tsv"
HOPS: Final = (1, 2, 4, 4, 8)  # drawn from at every step
CLIP_FRAMES: Final = 24  # half a window longer than one
STREAM_SHARE: Final = 0.2  # of the steps, through real rings
STREAM_FRAMES: Final = 40  # what the first layers saw has left the rings of all others
LEARNT_FRAMES: Final = 16  # the last ones of those, which have gradients
# What notes nothing about its frames: norms and temporal attentions keep what is carried.
RECOMPUTED: Final = (SpatialTransformer, FeedForward)
# The temporal modules are what has to change; the rest only makes room.
TEMPORAL_RATE: Final = 1.0
SPATIAL_RATE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Draw:
    """How one step cuts its clips.

    Attributes:
        frames: of a clip, a multiple of the hop.
        learn_from: frames before this one are a stream's past, without gradients.
        rings: hop by hop through rings, instead of in one pass.
    """

    hop: int
    frames: int
    learn_from: int
    rings: bool

    @classmethod
    def of_step(cls, recipe: Recipe, step: int) -> Draw:
        """A function of the step, so that a run that was cut short goes on the same way."""
        random = step_generator(recipe, step)
        hop = HOPS[int(torch.randint(len(HOPS), (), generator=random))]
        if float(torch.rand((), generator=random)) < STREAM_SHARE:
            return cls(hop, STREAM_FRAMES, STREAM_FRAMES - LEARNT_FRAMES, rings=True)
        return cls(hop, CLIP_FRAMES, 0, rings=False)


def parameter_groups(unet: nn.Module, *, temporal_only: bool) -> list[dict[str, object]]:
    """The network's parameters as optimiser groups, each with its share of the rate."""
    temporal, spatial = [], []
    for name, value in unet.named_parameters():
        if "motion_modules" in name:
            temporal.append(value.requires_grad_())
        else:
            spatial.append(value.requires_grad_(not temporal_only))
    groups: list[dict[str, object]] = [{"params": temporal, "scale": TEMPORAL_RATE}]
    return groups if temporal_only else [*groups, {"params": spatial, "scale": SPATIAL_RATE}]


def causal_spec(spec: ModelSpec) -> ModelSpec:
    """The spec of what a bidirectional model becomes.

    Raises:
        ConfigError: the model is causal already, or runs in a way that a rollout does not repeat.
    """
    if spec.carry == "causal":
        raise ConfigError(f"expected a bidirectional model, {spec.name} is causal")
    if spec.start != "noise" or spec.guidance_scale > 1.0:
        raise ConfigError(
            "expected a model that starts from noise, without guidance, "
            f"got start {spec.start!r} and guidance {spec.guidance_scale:g}"
        )
    return dataclasses.replace(spec, name=f"{spec.name}-causal", carry="causal", refresh_hops=0)


def convert(
    model_dir: Path,
    out: Path,
    clips: ClipSource,
    recipe: Recipe,
    *,
    temporal_only: bool = False,
    recompute: bool = False,
    device: torch.device | str = "cpu",
) -> ModelSpec:
    """Trains and writes the causal model's folder; resumes from the checkpoint in it.

    Args:
        model_dir: the bidirectional model's folder.
        temporal_only: leave all but the temporal modules as they are: a third of a published
            model's parameters, and of the optimiser's memory.
        recompute: compute inner activations twice rather than keep them.

    Raises:
        ConfigError: the model cannot be converted.
    """
    spec = ModelSpec.read(model_dir)
    target, window, device = causal_spec(spec), spec.window_frames, torch.device(device)
    encode = ClipEncoder(
        spec, load_codec(model_dir, spec, device), load_audio_encoder(model_dir, spec, device)
    )
    teacher = window_forward(load_unet(model_dir, spec, device), window)
    unet = load_unet(model_dir, spec, device)
    if recompute:
        recompute_in_backward(unet, RECOMPUTED)
    out.mkdir(parents=True, exist_ok=True)
    run = Run(unet, recipe, parameter_groups(unet, temporal_only=temporal_only), out / CHECKPOINT)
    run.resume()
    denoising, weight = Denoising(spec), latent_weight(spec).to(device)

    def make(number: int) -> SpokenClips:
        return clips((recipe.batch, Draw.of_step(recipe, number).frames), number)

    def publish() -> None:
        write_derived_model(model_dir, out, target, {UNET_FILE: run.average.values})

    for batch in run.steps(make, publish):
        draw, random = Draw.of_step(recipe, run.step), step_generator(recipe, run.step)
        with torch.autocast(device.type, torch.bfloat16):
            clip = encode(batch)
            shape = (recipe.batch, denoising.noises, spec.unet.out_channels, *clip.whole.shape[3:])
            noise = torch.randn(shape, generator=random).to(device)
            forward = (
                stream_forward(unet, draw.hop, window, draw.learn_from)
                if draw.rings
                else clip_forward(unet, draw.hop, window)
            )
            rollout = denoising.rollout(forward, clip, noise)
            with torch.no_grad():
                opinions = [
                    denoising.estimate(teacher, step, estimate.noisy, clip)
                    for step, estimate in enumerate(rollout)
                ]
        errors = errors_of(rollout, opinions, clip.whole.float(), draw.hop, draw.learn_from, weight)
        run.learn(errors.total, errors.named())
    return ModelSpec.read(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", required=True, help="the bidirectional model: name or folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the causal model")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=3, help="clips a step")
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--temporal-only", action="store_true")
    parser.add_argument("--recompute", action="store_true", help="time for memory")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    faces = parser.add_mutually_exclusive_group()
    faces.add_argument("--clips", type=Path, help="what training.prepare made")
    faces.add_argument("--corpus", type=Path, default=CORPUS_FOLDER)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    model_dir = resolve_model(args.model)
    spec = ModelSpec.read(model_dir)
    if args.clips:
        args.out.mkdir(parents=True, exist_ok=True)
        clips = prepared_source(args.clips, spec, STREAM_FRAMES, args.out / SKIPPED)
    else:
        store = CropStore.open(args.corpus / "faces")
        clips = corpus_source(store, SpeechStore(spec.audio, args.corpus / "speech"), spec)
    convert(
        model_dir,
        args.out,
        clips,
        Recipe(args.steps, args.batch, args.rate, seed=4),
        temporal_only=args.temporal_only,
        recompute=args.recompute,
        device=args.device,
    )


if __name__ == "__main__":
    main()
