"""Puts the trained parts together as a model folder.

    python -m training.assemble --out engine/bundled/model

Writes the weights in fp16, `model.json` with their digests, the ONNX graphs
(`export.to_onnx`), and the model card with the scores of
`benchmarks/results/bundled-quality.json`, where they are this model's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file

from engine.checkpoints import AUDIO_ENCODER_FILE, CODEC_FILE, UNET_FILE, file_digest
from engine.spec import ModelSpec
from training import codec as codec_training
from training.audio_encoder import BUNDLED_AUDIO
from training.dataset import BUNDLED_FACE, RESOLUTION, TRAIN_FOLDER
from training.denoiser import TIMESTEP
from training.hearing import bundled_unet_spec
from training.model_card import model_card

log = logging.getLogger(__name__)

NAME: Final = "lipwire-bundled-128"
LICENCE: Final = "Apache-2.0"
HALF_LIMIT: Final = 6.0e4  # fp16 holds up to 65 504


def write_half(source: Path, target: Path) -> None:
    """Copies weights in fp16.

    Raises:
        ValueError: a value does not fit into fp16.
    """
    half = {}
    for key, value in load_file(source).items():
        if not torch.isfinite(value).all() or float(value.abs().max()) > HALF_LIMIT:
            raise ValueError(f"{source}: {key} holds values that fp16 cannot")
        half[key] = value.to(torch.float16).contiguous()
    save_file(half, target)
    target.chmod(0o644)  # safetensors writes for the owner alone


def assemble(folder: Path, out: Path) -> ModelSpec:
    """Writes weights and `model.json`; digests of the ONNX graphs follow with `seal`."""
    out.mkdir(parents=True, exist_ok=True)
    write_half(folder / "denoiser.safetensors", out / UNET_FILE)
    write_half(folder / "drawn_codec.safetensors", out / CODEC_FILE)
    write_half(folder / "audio_encoder.safetensors", out / AUDIO_ENCODER_FILE)
    codec = codec_training.load(folder / "drawn_codec.safetensors").spec
    spec = ModelSpec(
        name=NAME,
        licence=LICENCE,
        resolution=RESOLUTION,
        audio=BUNDLED_AUDIO,
        unet=bundled_unet_spec(codec.latent_channels),
        codec=codec,
        face=BUNDLED_FACE,
        prediction_type="sample",
        timesteps=(TIMESTEP,),
        carry="causal",
        window_frames=16,
        hop_frames=4,
    )
    (out / "model.json").write_text(spec.to_json())
    return spec


def seal(out: Path, spec: ModelSpec) -> None:
    """Writes the digests of all files beside `model.json` into it."""
    files = sorted(path for path in out.iterdir() if path.suffix in (".safetensors", ".onnx"))
    digests = {path.name: file_digest(path) for path in files}
    (out / "model.json").write_text(dataclasses.replace(spec, digests=digests).to_json())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=TRAIN_FOLDER)
    parser.add_argument("--out", type=Path, default=Path("engine/bundled/model"))
    parser.add_argument(
        "--scores", type=Path, default=Path("benchmarks/results/bundled-quality.json")
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    spec = assemble(args.folder, args.out)
    export = [sys.executable, "-m", "export.to_onnx", str(args.out)]
    subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
    seal(args.out, spec)
    scores = json.loads(args.scores.read_text()) if args.scores.is_file() else {}
    own = scores.get("unet_sha256") == file_digest(args.out / UNET_FILE)
    (args.out / "MODEL_CARD.md").write_text(model_card(spec, scores if own else None))
    size = sum(path.stat().st_size for path in args.out.iterdir())
    log.info("%s: %.1f MB", args.out, size / 1e6)


if __name__ == "__main__":
    main()
