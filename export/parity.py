"""Whether a folder's ONNX graphs compute what torch computes.

    python -m export.parity MODEL_DIR

Golden inputs are drawn from fixed seeds, so that a report can be repeated
anywhere. onnxruntime runs the graphs in fp32, at the exported shapes and at
others, because a shape that the exporter froze shows only there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from engine.checkpoints import load_audio_encoder, load_codec, load_unet
from engine.errors import LipwireError, ModelError
from engine.media import F32
from engine.models.unet import UNet3DConditionModel
from engine.spec import ModelSpec

# Relative error is |ours - torch| / |torch| in the 2-norm. fp32 sums in another
# order differ by about 1e-6 a layer.
TOLERANCE = 1e-4
PARITY_FILE = "parity.json"
_AS_IT_IS = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far one graph output is from torch's.

    Attributes:
        case: the graph and the shapes it was run at.
        largest: largest absolute difference.
        relative: 2-norm of the difference over the 2-norm of torch's output.
    """

    case: str
    output: str
    largest: float
    relative: float


@dataclass(frozen=True, slots=True)
class Parity:
    """Every output's error and the tolerance that all are under."""

    runtime: str
    tolerance: float
    errors: list[OutputError]


def hop_inputs(spec: ModelSpec, unet: UNet3DConditionModel, hop: int, batch: int) -> list[Tensor]:
    """Random U-Net inputs of one hop: sample, timestep, audio, valid, rings.

    The first session has a full context; each further one lacks its oldest frames.
    """
    generator = torch.Generator().manual_seed(100 * hop + batch)
    context, size = spec.window_frames - hop, spec.latent_size

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    valid = torch.ones(batch, context)
    for session in range(1, batch):
        valid[session, : context * session // batch] = 0.0
    rings = [
        normal(batch, 2, context, tokens, channels) for tokens, channels in unet.ring_shapes(size)
    ]
    return [
        normal(batch, spec.unet.in_channels, hop, size, size),
        torch.full((batch,), float(spec.timesteps[0])),
        normal(batch, hop, spec.audio.tokens, spec.audio.width),
        valid,
        *(rings if context else []),
    ]


class ReferenceGraph:
    """An ONNX file in onnxruntime, one thread, shapes left free."""

    def __init__(self, path: Path, *, as_it_is: bool = False) -> None:
        """Opens the file.

        Args:
            as_it_is: without onnxruntime's optimisations. Then it is the graph that is checked,
                and neither folded nor packed copies of the weights are made: they stay in
                their file.

        Raises:
            ModelError: onnxruntime refuses the graph.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3  # errors only
        if as_it_is:
            options.graph_optimization_level = _AS_IT_IS
            options.enable_cpu_mem_arena = False
            options.add_session_config_entry("session.disable_prepacking", "1")
        self._path = path
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, ["CPUExecutionProvider"]
            )
        except Exception as error:  # its errors share no narrower base
            raise ModelError(f"onnxruntime refused {path}: {error}") from error

    def run(self, inputs: Sequence[Tensor]) -> dict[str, F32]:
        """Outputs by name, of inputs in the graph's order.

        Raises:
            ModelError: the graph cannot run at these shapes.
        """
        names = [item.name for item in self._session.get_inputs()]
        feed = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        try:
            values = self._session.run(None, feed)
        except Exception as error:
            raise ModelError(f"{self._path} cannot run: {error}") from error
        outputs = (item.name for item in self._session.get_outputs())
        return dict(zip(outputs, values, strict=True))


def output_error(case: str, name: str, got: F32, want: Tensor) -> OutputError:
    """How far one output is from torch's.

    Raises:
        ModelError: it has another shape.
    """
    expected = want.numpy()
    if got.shape != expected.shape:
        raise ModelError(f"{case} {name}: expected {expected.shape}, got {got.shape}")
    difference = got.astype(np.float64) - expected
    norm = max(float(np.linalg.norm(expected)), 1e-12)
    relative = float(np.linalg.norm(difference)) / norm
    return OutputError(case, name, float(np.abs(difference).max()), relative)


def _errors(case: str, got: dict[str, F32], want: Sequence[Tensor]) -> list[OutputError]:
    pairs = zip(got.items(), want, strict=True)
    return [output_error(case, name, value, reference) for (name, value), reference in pairs]


def check_parity(model_dir: Path, tolerance: float = TOLERANCE) -> Parity:
    """Runs the graphs of a folder against torch and writes `parity.json` beside them.

    Raises:
        ModelError: an output is further from torch than `tolerance`.
    """
    spec = ModelSpec.read(model_dir)
    unet = load_unet(model_dir, spec)
    codec = load_codec(model_dir, spec)
    audio_encoder = load_audio_encoder(model_dir, spec)
    generator = torch.Generator().manual_seed(0)
    size = spec.latent_size
    errors: list[OutputError] = []
    names = ("audio_encoder", "codec_encoder", "codec_decoder", "unet")
    graphs = {name: ReferenceGraph(model_dir / f"{name}.onnx") for name in names}
    with torch.no_grad():
        for batch in (1, 3):
            mel = torch.randn(batch, spec.audio.n_mels, spec.audio.mel_frames, generator=generator)
            image = torch.rand(batch, 3, spec.resolution, spec.resolution, generator=generator)
            latents = torch.randn(
                batch, spec.codec.latent_channels, size, size, generator=generator
            )
            for name, value, want in (
                ("audio_encoder", mel, audio_encoder(mel)),
                ("codec_encoder", 2 * image - 1, codec.encode(2 * image - 1)),
                ("codec_decoder", latents, codec.decode(latents)),
            ):
                errors += _errors(f"{name} batch {batch}", graphs[name].run([value]), [want])
        for batch, hop in ((1, spec.hop_frames), (2, spec.hop_frames), (1, 1), (1, 8)):
            if hop >= spec.window_frames:
                continue
            inputs = hop_inputs(spec, unet, hop, batch)
            sample, timestep, audio, valid, *rings = inputs
            out, new = unet.forward_hop(sample, timestep, audio, valid, rings)
            case = f"unet batch {batch} hop {hop}"
            errors += _errors(case, graphs["unet"].run(inputs), [out, *new])
    parity = Parity(f"onnxruntime {onnxruntime.__version__}", tolerance, errors)
    text = json.dumps(asdict(parity), indent=1) + "\n"
    (model_dir / PARITY_FILE).write_text(text, encoding="utf-8")
    worst = max(errors, key=lambda error: error.relative)
    if worst.relative > tolerance:
        raise ModelError(
            f"{worst.case} {worst.output}: expected a relative error of at most {tolerance}, "
            f"got {worst.relative:.2e}"
        )
    return parity


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks the folder named on the command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m export.parity",
        description="Hold the ONNX graphs of a model folder against torch.",
        epilog="example: python -m export.parity engine/bundled/model",
    )
    parser.add_argument("model_dir", type=Path)
    options = parser.parse_args(arguments)
    try:
        parity = check_parity(options.model_dir)
    except LipwireError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(parity), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
