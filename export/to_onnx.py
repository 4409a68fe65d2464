"""Writes the four ONNX graphs of a model folder.

    python -m export.to_onnx MODEL_DIR

The graphs hold no weights: they read the folder's .safetensors files
(`export.shared_weights`). Every one has an explicit batch axis; `batch`, `hop`
and `context` are dynamic by name, so that a runtime can fix them for its own
shapes. Opset 20, because opset 23's Attention builds in fp16 only.

| graph | inputs | outputs |
|---|---|---|
| audio_encoder | mel [batch, n_mels, 2P] | tokens [batch, tokens, width] |
| codec_encoder | image [batch, 3, R, R] | latents [batch, C, s, s] |
| codec_decoder | latents [batch, C, s, s] | image [batch, 3, R, R] |
| unet | sample [batch, 3C+1, hop, s, s], timestep [batch], | out [batch, P, hop, s, s], |
|  | audio [batch, hop, tokens, width], valid [batch, context], | new_000.. |
|  | ring_000.. [batch, 2, context, s_l*s_l, channels] | [batch, 2, hop, s_l*s_l, channels] |

P is C, and WARP_CHANNELS more in a model with a source_warp.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from torch import Tensor, nn

from engine.checkpoints import file_digest, load_audio_encoder, load_codec, load_unet
from engine.errors import LipwireError, ModelError
from engine.models.tiny_codec import TinyCodec
from engine.models.unet import UNet3DConditionModel
from engine.spec import ModelSpec
from export.compact import compact
from export.parity import Parity, check_parity, hop_inputs
from export.shared_weights import point_into

OPSET = 20
DynamicAxes = dict[str, dict[int, str]]


@dataclass(frozen=True, slots=True)
class GraphReport:
    """One written graph.

    Attributes:
        nodes: operators in the graph.
        graph_bytes: size of the .onnx file.
        shared_bytes: weights that it reads from the .safetensors.
    """

    name: str
    nodes: int
    graph_bytes: int
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The graphs of a model folder and how well they agree with torch."""

    graphs: list[GraphReport]
    parity: Parity


class _CodecEncoder(nn.Module):
    def __init__(self, codec: TinyCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, image: Tensor) -> Tensor:
        return self.codec.encode(image)


class _CodecDecoder(nn.Module):
    def __init__(self, codec: TinyCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, latents: Tensor) -> Tensor:
        return self.codec.decode(latents)


class _HopNetwork(nn.Module):
    """The U-Net with its rings as plain inputs and outputs."""

    def __init__(self, unet: UNet3DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self, sample: Tensor, timestep: Tensor, audio: Tensor, valid: Tensor, *rings: Tensor
    ) -> tuple[Tensor, ...]:
        out, new = self.unet.forward_hop(sample, timestep, audio, valid, list(rings))
        return (out, *new)


def _write_graph(
    module: nn.Module,
    inputs: Sequence[Tensor],
    input_axes: DynamicAxes,
    output_axes: DynamicAxes,
    weights: Path,
    prefix: str,
    path: Path,
) -> GraphReport:
    # The tracing exporter, without folding: it keeps the weights' names and
    # layouts, so that each is a byte range of the .safetensors file.
    with TemporaryDirectory() as scratch, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = Path(scratch) / path.name
        torch.onnx.export(
            module.eval(),
            tuple(inputs),
            traced,
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,
            input_names=list(input_axes),
            output_names=list(output_axes),
            dynamic_axes={**input_axes, **output_axes},
        )
        graph = onnx.load(str(traced))
    compact(graph)
    shared_bytes = point_into(graph, weights, prefix)
    data = graph.SerializeToString()
    path.write_bytes(data)
    onnx.checker.check_model(str(path))
    return GraphReport(path.stem, len(graph.graph.node), len(data), shared_bytes)


def export_model(model_dir: Path) -> ExportReport:
    """Writes the four graphs and `parity.json` beside a folder's weights.

    The graphs' digests in `model.json` are renewed.

    Raises:
        ModelError: the model's temporal context is not all in its rings, its
            codec is not exported, or a graph disagrees with torch.
    """
    spec = ModelSpec.read(model_dir)
    if spec.codec.kind != "tiny" or not spec.unet.per_frame_norm:
        raise ModelError(
            f"{spec.name}: expected a tiny codec and per-frame norms; other models run in torch"
        )
    unet = load_unet(model_dir, spec)
    codec = load_codec(model_dir, spec)
    assert isinstance(codec, TinyCodec)
    audio_encoder = load_audio_encoder(model_dir, spec)
    size, channels = spec.latent_size, spec.codec.latent_channels
    inputs = hop_inputs(spec, unet, spec.hop_frames, batch=2)
    ring_count = len(inputs) - 4
    rings = [f"ring_{index:03d}" for index in range(ring_count)]
    news = [f"new_{index:03d}" for index in range(ring_count)]
    graphs = [
        _write_graph(
            audio_encoder,
            [torch.zeros(2, spec.audio.n_mels, spec.audio.mel_frames)],
            {"mel": {0: "batch"}},
            {"tokens": {0: "batch"}},
            model_dir / "audio_encoder.safetensors",
            "",
            model_dir / "audio_encoder.onnx",
        ),
        _write_graph(
            _CodecEncoder(codec),
            [torch.zeros(2, 3, spec.resolution, spec.resolution)],
            {"image": {0: "batch"}},
            {"latents": {0: "batch"}},
            model_dir / "codec.safetensors",
            "codec.",
            model_dir / "codec_encoder.onnx",
        ),
        _write_graph(
            _CodecDecoder(codec),
            [torch.zeros(2, channels, size, size)],
            {"latents": {0: "batch"}},
            {"image": {0: "batch"}},
            model_dir / "codec.safetensors",
            "codec.",
            model_dir / "codec_decoder.onnx",
        ),
        _write_graph(
            _HopNetwork(unet),
            inputs,
            {
                "sample": {0: "batch", 2: "hop"},
                "timestep": {0: "batch"},
                "audio": {0: "batch", 1: "hop"},
                "valid": {0: "batch", 1: "context"},
                **{name: {0: "batch", 2: "context"} for name in rings},
            },
            {
                "out": {0: "batch", 2: "hop"},
                **{name: {0: "batch", 2: "hop"} for name in news},
            },
            model_dir / "unet.safetensors",
            "unet.",
            model_dir / "unet.onnx",
        ),
    ]
    parity = check_parity(model_dir)
    digests = {
        f"{graph.name}.onnx": file_digest(model_dir / f"{graph.name}.onnx") for graph in graphs
    }
    renewed = replace(spec, digests={**spec.digests, **digests})
    (model_dir / "model.json").write_text(renewed.to_json(), encoding="utf-8")
    return ExportReport(graphs, parity)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports the folder named on the command line; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m export.to_onnx",
        description="Write the ONNX graphs of a model folder and check them against torch.",
        epilog="example: python -m export.to_onnx engine/bundled/model",
    )
    parser.add_argument("model_dir", type=Path)
    options = parser.parse_args(arguments)
    try:
        report = export_model(options.model_dir)
    except LipwireError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(asdict(report), indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
