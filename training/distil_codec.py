"""Distils a small decoder of face crops from a model's KL decoder.

    python -m training.distil_codec --teacher latentsync-1.5 --pictures FOLDER --out FOLDER

At few steps the KL decoder is most of a frame: 622 GFLOP at 256 pixels beside the U-Net's 253 a
step. The student has TAESD's shape (`engine.models.taesd`): 32 GFLOP, of the teacher's own scaled
latents, so that it stands in for the decoder while encoder and U-Net stay as they are. It learns
from pictures of faces alone, since it will decode nothing else:

- the aim is what the teacher decodes, not the truth: what latents do not hold cannot be learnt;
- pixels, their gradients at two scales, and what the teacher's own encoder sees of both pictures
  in its first levels (a perceptual loss that needs no other network), the lips most;
- the student is given latents with a little noise, the teacher without: a denoiser's latents are
  never exact.

Writes the teacher's folder with `codec.decoder` "taesd" and the student's file beside the codec's.
The weights of the published TAESD (github.com/madebyollin/taesd) are a good start: `--start`.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.checkpoints import CODEC_FILE, TINY_DECODER_FILE, resolve_model
from engine.errors import ConfigError
from engine.models.build import load_module
from engine.models.kl_vae import DownBlock, Encoder, KlCodec
from engine.models.taesd import TaesdDecoder, decoder_alone
from engine.spec import ModelSpec
from training.codec import picture_loss, psnr
from training.crop_pictures import PictureFolder
from training.dataset import CORPUS_FOLDER, CropStore, Split, colour_jitter, to_tensor
from training.derived_model import write_derived_model
from training.model_crops import lips_box, pixel_weight, resized
from training.optimise import Recipe, Run, step_generator

log = logging.getLogger(__name__)

CHECKPOINT: Final = "distil_codec.checkpoint.pt"
SEEN_LEVELS: Final = 2  # of the teacher's encoder
SEEN_WEIGHT: Final = 0.1
LATENT_NOISE: Final = 0.05  # of the latents' own spread, at most

Crops = Callable[[int, Split, int], Tensor]
"""(count, split, seed) to pictures [count, 3, R, R] in [-1, 1]."""


class SeenDifference(nn.Module):
    """What the first levels of a KL encoder see differ between two pictures.

    Perceptual Losses for Real-Time Style Transfer and Super-Resolution (1603.08155), on the
    codec's own features.
    """

    def __init__(self, encoder: Encoder, levels: int = SEEN_LEVELS) -> None:
        super().__init__()
        self._conv_in, self._blocks = encoder.conv_in, encoder.down_blocks[:levels]

    def forward(self, shown: Tensor, aim: Tensor) -> Tensor:
        """Mean difference of features, each channel in units of its own spread."""
        loss = shown.new_zeros(())
        shown, aim = self._conv_in(shown), self._conv_in(aim)
        for block in self._blocks:
            assert isinstance(block, DownBlock)
            for resnet in block.resnets:
                shown, aim = resnet(shown), resnet(aim)
            spread = aim.float().std(dim=(0, 2, 3), keepdim=True) + 1e-3
            loss = loss + ((shown - aim).float() / spread).abs().mean()
            for downsampler in getattr(block, "downsamplers", ()):
                shown, aim = downsampler(shown), downsampler(aim)
        return loss / len(self._blocks)


@dataclass(frozen=True, slots=True)
class Fidelity:
    """PSNR in dB on held-out crops, inside the lips' box and over the whole crop.

    Attributes:
        to_teacher: the student against what the teacher decodes.
        to_truth: the student against the picture itself.
        teacher: the teacher against the picture: what the student cannot be above by much.
    """

    lips_to_teacher: float
    lips_to_truth: float
    lips_teacher: float
    whole_to_teacher: float
    whole_to_truth: float
    whole_teacher: float


@torch.no_grad()
def fidelity(teacher: KlCodec, student: nn.Module, spec: ModelSpec, pictures: Tensor) -> Fidelity:
    """How near the student comes over pictures [n, 3, R, R]."""
    left, top, right, bottom = lips_box(spec.face, spec.resolution)
    whole, lips = (..., slice(None), slice(None)), (..., slice(top, bottom), slice(left, right))
    device = next(teacher.parameters()).device
    errors: dict[str, list[float]] = {}
    for place in range(len(pictures)):
        picture = pictures[place : place + 1].to(device)
        latents = teacher.encode(picture)
        aim = teacher.decode(latents).clamp(-1, 1)
        made = student(latents).clamp(-1, 1)
        pairs = {"to_teacher": (made, aim), "to_truth": (made, picture), "teacher": (aim, picture)}
        for name, (one, other) in pairs.items():
            square = (one - other).square()
            errors.setdefault(f"lips_{name}", []).append(float(square[lips].mean()))
            errors.setdefault(f"whole_{name}", []).append(float(square[whole].mean()))
    return Fidelity(**{name: psnr(float(np.mean(found))) for name, found in errors.items()})


def fresh_student(spec: ModelSpec, start: Path | None = None) -> TaesdDecoder:
    """The decoder to train, with the weights of `start` where there is such a file.

    Raises:
        ConfigError: the file has other weights than a decoder's of these latents.
    """
    module = decoder_alone(spec.codec)
    if start is not None:
        stored = load_file(start)
        weights = {key: value for key, value in stored.items() if key.startswith("decoder.")}
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise ConfigError(f"{start}: {error}") from error
    student = module["decoder"]
    assert isinstance(student, TaesdDecoder)
    return student


def student_spec(spec: ModelSpec) -> ModelSpec:
    """The spec of the teacher's model with a distilled decoder.

    Raises:
        ConfigError: the teacher has no KL codec of its own.
    """
    if (spec.codec.kind, spec.codec.decoder) != ("kl", "own"):
        raise ConfigError(
            "expected a teacher with a KL codec and its own decoder, "
            f"got {spec.codec.kind!r} and {spec.codec.decoder!r}"
        )
    return dataclasses.replace(spec, codec=dataclasses.replace(spec.codec, decoder="taesd"))


def load_teacher(model_dir: Path, spec: ModelSpec, device: torch.device) -> KlCodec:
    """The folder's whole KL codec.

    Raises:
        ModelError: its weights cannot be read, or do not fit.
    """
    return load_module(lambda: KlCodec(spec.codec), model_dir / CODEC_FILE, device)


def distil(
    model_dir: Path,
    out: Path,
    crops: Crops,
    recipe: Recipe,
    *,
    start: Path | None = None,
    device: torch.device | str = "cpu",
) -> ModelSpec:
    """Trains the student and writes its model folder; resumes from the checkpoint in it.

    Args:
        model_dir: the teacher's folder; of its weights only the codec's are read.
        crops: faces in the model's own crop.
        start: weights to start from.

    Raises:
        ConfigError: the teacher has no KL decoder, or `start` does not fit.
    """
    spec = ModelSpec.read(model_dir)
    target, device = student_spec(spec), torch.device(device)
    teacher = load_teacher(model_dir, spec, device)
    torch.manual_seed(recipe.seed)
    student = fresh_student(target, start).to(device)
    student.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    seen = SeenDifference(teacher.encoder)
    weight = pixel_weight(spec).to(device)
    out.mkdir(parents=True, exist_ok=True)
    groups = [{"params": list(student.parameters()), "scale": 1.0}]
    run = Run(student, recipe, groups, out / CHECKPOINT)
    run.resume()

    def make(number: int) -> Tensor:
        pictures = crops(recipe.batch, "train", number)
        return colour_jitter(pictures, step_generator(recipe, number))

    def publish() -> None:
        weights = {f"decoder.{key}": value for key, value in run.average.values.items()}
        write_derived_model(model_dir, out, target, {TINY_DECODER_FILE: weights})

    for pictures in run.steps(make, publish):
        random = step_generator(recipe, run.step)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                latents = teacher.encode(pictures.to(device))
                aim = teacher.decode(latents).float()
            level = LATENT_NOISE * torch.rand(len(latents), 1, 1, 1, generator=random)
            noise = level * torch.randn(latents.shape, generator=random)
            given = latents + noise.to(device) * latents.std()
            made = student(given.contiguous(memory_format=torch.channels_last)).float()
            difference = seen(made, aim)
        pixels = picture_loss(made, aim, weight)
        run.learn(pixels + SEEN_WEIGHT * difference, {"pixels": pixels, "seen": difference})
    return ModelSpec.read(out)


def corpus_crops(store: CropStore, resolution: int) -> Crops:
    """The corpus's crops: of models with the bundled crop of a face."""

    def draw(count: int, split: Split, seed: int) -> Tensor:
        return resized(to_tensor(store.sample(count, split, seed)), resolution)

    return draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--teacher", required=True, help="a model with a KL codec: name or folder")
    parser.add_argument("--out", type=Path, required=True, help="folder of the student's model")
    faces = parser.add_mutually_exclusive_group()
    faces.add_argument("--pictures", type=Path, help="folder of face crops as the model sees them")
    faces.add_argument("--corpus", type=Path, default=CORPUS_FOLDER)
    parser.add_argument("--start", type=Path, help="weights of a TAESD decoder to start from")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    model_dir = resolve_model(args.teacher)
    spec = ModelSpec.read(model_dir)
    crops = (
        PictureFolder(args.pictures, spec.resolution)
        if args.pictures
        else corpus_crops(CropStore.open(args.corpus / "faces"), spec.resolution)
    )
    recipe = Recipe(args.steps, args.batch, args.rate, seed=5)
    distil(model_dir, args.out, crops, recipe, start=args.start, device=args.device)
    device = torch.device(args.device)
    teacher = load_teacher(model_dir, spec, device)
    student = fresh_student(student_spec(spec), args.out / TINY_DECODER_FILE).to(device)
    held_out = crops(64, "test", 0)
    log.info("held out: %s", fidelity(teacher, student, spec, held_out))


if __name__ == "__main__":
    main()
