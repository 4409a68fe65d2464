"""Whether the bundled model's decoder draws as well when its products read 8-bit floats.

    python -m benchmarks.f8_decoder --json benchmarks/results/f8_decoder.json

The decoder's convolutions are rounded as `export.f8` rounds the U-Net's, in torch: inputs by the
largest value that a stream of the model showed, weights by output channel. All of them, and all but
those of the last stages, draw the takes of `lipwire bench quality`, and are judged by the rule of
`benchmarks.f8`. On a CPU nothing can be said of speed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.f8 import ROUNDS, Rule
from benchmarks.int8 import distance
from benchmarks.quality.material import TAKE_FRAMES, make_takes
from benchmarks.quality.runs import own_case, run_case
from benchmarks.quality.scores import Judge, score
from benchmarks.quality.torch_runs import LatentsRunner
from benchmarks.report import here
from engine.avatar import prepare_avatar
from engine.backends.base import HopInput
from engine.backends.torch_backend import TorchBackend
from engine.checkpoints import resolve_model
from engine.denoise.model import TorchModel
from engine.models.tiny_codec import TinyCodec
from engine.spec import ModelSpec
from export.f8.histogram import MagnitudeHistogram
from export.f8.recipe import ALIGNMENT, DEFAULT_RECIPE
from export.f8.sensitivity import emulated
from export.f8.sources import avatar_folders, short_avatars, spoken_mels
from training.sync_network import load_expert


def decoder_layers(decoder: nn.Module) -> list[str]:
    """Convolutions that TensorRT has products of 8 bits for, in the decoder's order."""
    return [
        name
        for name, layer in decoder.named_modules()
        if isinstance(layer, nn.Conv2d)
        and not any(width % ALIGNMENT for width in layer.weight.shape[:2])
    ]


class Loaded:
    """The bundled model in torch, for `run_case`."""

    def __init__(self, model: TorchModel, spec: ModelSpec) -> None:
        self.spec = spec
        self._model = model

    def open(self, spec: ModelSpec) -> LatentsRunner:
        return LatentsRunner(self._model, spec)


@torch.inference_mode()
def decoder_ranges(model: TorchModel, spec: ModelSpec, layers: Sequence[str]) -> dict[str, float]:
    """Layer -> the largest magnitude that it read while avatars spoke."""
    decoder = _decoder(model)
    seen = {name: MagnitudeHistogram() for name in layers}
    folders = avatar_folders(DEFAULT_RECIPE.sessions)
    hop, frames = spec.hop_frames, DEFAULT_RECIPE.hops * spec.hop_frames
    mels = spoken_mels(spec.audio, len(folders), frames)
    backend = TorchBackend(model, spec, graphs=False, sessions=1)
    with ExitStack() as hooks:
        for name in layers:
            handle = decoder.get_submodule(name).register_forward_pre_hook(
                lambda _layer, inputs, name=name: seen[name].add(inputs[0])
            )
            hooks.callback(handle.remove)
        for session, avatar in enumerate(short_avatars(folders, frames)):
            face = prepare_avatar(avatar, backend)
            state = backend.new_session(hop_frames=hop, seed=session)
            for first in range(0, frames, hop):
                own = slice(first, first + hop)
                latents = (face.masked_latents[own], face.ref_latents[own])
                backend.run_hop([HopInput(state, mels[session][own], *latents)])
    return {name: histogram.largest for name, histogram in seen.items()}


def measure() -> dict[str, Any]:
    """Rows by the layers that are in 8 bits."""
    folder = resolve_model("bundled")
    spec = ModelSpec.read(folder)
    case, takes = own_case(spec), make_takes(spec)
    judge = Judge.of(spec, takes, load_expert())
    model = TorchModel.load(folder, torch.device("cpu"), "f32")
    layers = decoder_layers(_decoder(model))
    ranges = decoder_ranges(model, spec, layers)
    choices: Mapping[str, list[str]] = {
        "f32": [],
        "all": layers,
        "all but the last third": layers[: 2 * len(layers) // 3],
    }
    rows: dict[str, Any] = {}
    reference: list[Any] = []
    for name, chosen in choices.items():
        with emulated(_decoder(model), {layer: ranges[layer] for layer in chosen}):
            clips = run_case(Loaded(model, spec), case, takes, ROUNDS * TAKE_FRAMES).clips
        reference = reference or clips
        saved = sum(_weight(_decoder(model), layer).numel() for layer in chosen)
        rows[name] = {
            "layers": len(chosen),
            "mb_saved_of_f16": round(saved / 1e6, 3),
            "from_f32": distance(clips, reference, judge),
            "quality": score(judge, clips, case.hop, TAKE_FRAMES),
            "drift": None,
        }
        rows[name]["worse_than_allowed"] = Rule().broken(rows[name], rows["f32"])
        sys.stderr.write(f"{name}: {json.dumps(rows[name])}\n")
    parameters = sum(value.numel() for value in _decoder(model).parameters())
    return {"decoder_mb_f16": round(2 * parameters / 1e6, 3), "rule": asdict(Rule()), "rows": rows}


def _weight(decoder: nn.Module, layer: str) -> Tensor:
    return decoder.get_parameter(f"{layer}.weight")


def _decoder(model: TorchModel) -> nn.Module:
    assert isinstance(model.codec, TinyCodec)
    return model.codec.decoder


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.f8_decoder",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="example: python -m benchmarks.f8_decoder --json f8_decoder.json",
    )
    parser.add_argument("--json", type=Path, help="write the figures here")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    about = here("python -m benchmarks.f8_decoder", arguments or sys.argv[1:]).to_dict()
    text = json.dumps({"circumstances": about, **measure()}, indent=1) + "\n"
    if given.json is not None:
        given.json.write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
