"""What happens to a hop between its networks, as graphs without weights.

With these a hop runs on a device from log-mels to pictures, and nothing comes back to the host in
between. They are compiled as the networks are; n is the session's number of fixed noises.

| graph | inputs | outputs |
|---|---|---|
| hop_start | mel [b, h, n_mels, 2P], noise [b, n, C, s, s], | network_mel [b, h, n_mels, 2P], |
|  | masked, reference [b, h, C, s, s] | latents [b, h, C, s, s], sample [b, 3C+1, h, s, s] |
| hop_step | latents [b, h, C, s, s], out [b, P, h, s, s], | next [b, h, C, s, s], |
|  | noise [b, n, C, s, s], mix [b, 2 + n] | noisy [b, C, h, s, s], clean [b, h, C, s, s], |
|  | | warp [b, h, P - C, s, s] where there is one |
| hop_finish | image [b * h, 3, R, R] | crops [b * h, R, R, 3] |
| crop_start | crops [b * h, R, R, 3], grey [b * h, 1] | image [b * h, 3, R, R] |
| crop_finish | latents [b * h, C, s, s] | wide [b * h, C, s, s] |

A denoising step is a weighted sum, `next = mix . (latents, out, noises)`: one graph serves every
solver and every step (`engine.plan_runtime.mixing`). `noisy` is what the next step's sample begins
with, `clean` what the decoder reads after the last one. `grey` is 1.0 where the generated part of a
crop is greyed out. crops are uint8; network_mel, sample, out, noisy, clean and image have the
precision of the networks; all else is f32.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import helper
from torch import Tensor, nn

from engine.face.mask import mask_image, mask_latents
from engine.plan_runtime.mixing import noises_of
from export.component_graph import IR_VERSION, OPSETS
from export.networks import TORCH_DTYPES
from export.request import BATCH_AXIS, ExportRequest, TensorSpec

HOP_GRAPHS = ("hop_start", "hop_step", "hop_finish", "crop_start", "crop_finish")


class HopStart(nn.Module):
    """What a hop's networks read first."""

    def __init__(self, mask: Tensor, dtype: torch.dtype) -> None:
        """
        Args:
            mask: [s, s], the network's mask channel.
        """
        super().__init__()
        self._mask = mask
        self._dtype = dtype

    def forward(
        self, mel: Tensor, noise: Tensor, masked: Tensor, reference: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        latents = noise[:, :1].expand_as(masked).contiguous()
        mask = self._mask.expand(*masked.shape[:2], 1, -1, -1)
        sample = torch.cat([latents, mask, masked, reference], dim=2).transpose(1, 2)
        return mel.to(self._dtype), latents, sample.to(self._dtype)


class HopStep(nn.Module):
    """One step of the sampler, and what its reader wants of it."""

    def __init__(self, channels: int, dtype: torch.dtype) -> None:
        """
        Args:
            channels: C, of the latents; the network's outputs after these are warps.
        """
        super().__init__()
        self._channels = channels
        self._dtype = dtype

    def forward(
        self, latents: Tensor, out: Tensor, noise: Tensor, mix: Tensor
    ) -> tuple[Tensor, ...]:
        frames = out.transpose(1, 2).float()
        weights = mix[:, :, None, None, None, None]
        following = weights[:, 0] * latents + weights[:, 1] * frames[:, :, : self._channels]
        for index in range(noise.shape[1]):
            following = following + weights[:, 2 + index] * noise[:, index : index + 1]
        narrow = following.to(self._dtype)
        made = (following, narrow.transpose(1, 2), narrow)
        warp = frames[:, :, self._channels :]
        return made if warp.shape[2] == 0 else (*made, warp)


class HopFinish(nn.Module):
    """Pictures as people see them."""

    def forward(self, image: Tensor) -> Tensor:
        levels = (image.float() * 127.5 + 128.0).clamp(0.0, 255.0)
        return levels.permute(0, 2, 3, 1).to(torch.uint8)


class CropStart(nn.Module):
    """Pictures as the codec reads them."""

    def __init__(self, keep: Tensor, dtype: torch.dtype) -> None:
        """
        Args:
            keep: [R, R], 0 where a crop is greyed out.
        """
        super().__init__()
        self._keep = keep
        self._dtype = dtype

    def forward(self, crops: Tensor, grey: Tensor) -> Tensor:
        image = crops.float().permute(0, 3, 1, 2) * (1.0 / 127.5) - 1.0
        kept = 1.0 - grey[:, :, None, None] * (1.0 - self._keep)
        return (image * kept).to(self._dtype)


class CropFinish(nn.Module):
    """The codec's latents in f32."""

    def forward(self, latents: Tensor) -> Tensor:
        # TensorRT wants one node at least, and f32 as f32 would be none.
        return latents.float() * 1.0


@dataclass(frozen=True, slots=True)
class HopGraph:
    """A graph of this module, written as ONNX.

    Attributes:
        name: of its file, without a suffix.
        batches: sessions a call that it is compiled for.
        frames: rows of one session.
    """

    name: str
    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batches: tuple[int, ...]
    frames: int

    def rows(self, batch: int) -> int:
        """The length of the batch axis for so many sessions."""
        return batch * self.frames


def write_hop_graph(request: ExportRequest, name: str, folder: Path) -> HopGraph:
    """One of the graphs between the networks, in the request's hop, batches and precision.

    Args:
        request: of any of the model's components.
        name: of the graph, as in the table above.
        folder: exists; a file of its name is overwritten.
    """
    module, inputs, outputs, frames = _between(request)[name]
    path = folder / f"{name}.onnx"
    graph = HopGraph(name, path, inputs, outputs, request.batches, frames)
    _write(module, graph, OPSETS[request.precision])
    return graph


Tensors = tuple[TensorSpec, ...]


def _between(request: ExportRequest) -> dict[str, tuple[nn.Module, Tensors, Tensors, int]]:
    """Each graph's module, inputs, outputs and rows of a session."""
    spec, hop, kind = request.spec, request.hop_frames, request.dtype
    dtype = TORCH_DTYPES[kind]
    channels, size, side = spec.codec.latent_channels, spec.latent_size, spec.resolution
    mels, noises = (spec.audio.n_mels, spec.audio.mel_frames), noises_of(spec)
    latents, face = (channels, size, size), (hop, channels, size, size)
    warps = spec.unet.prediction_channels - channels

    def f32(name: str, *shape: int) -> TensorSpec:
        return TensorSpec(name, "f32", (BATCH_AXIS, *shape))

    def own(name: str, *shape: int) -> TensorSpec:
        return TensorSpec(name, kind, (BATCH_AXIS, *shape))

    image = own("image", 3, side, side)
    crops = TensorSpec("crops", "u8", (BATCH_AXIS, side, side, 3))
    out = own("out", channels + warps, hop, size, size)
    noise = f32("noise", noises, *latents)
    warp = (f32("warp", hop, warps, size, size),) if warps else ()
    return {
        "hop_start": (
            HopStart(torch.from_numpy(mask_latents(spec)), dtype),
            (f32("mel", hop, *mels), noise, f32("masked", *face), f32("reference", *face)),
            (
                own("network_mel", hop, *mels),
                f32("latents", *face),
                own("sample", 3 * channels + 1, hop, size, size),
            ),
            1,
        ),
        "hop_step": (
            HopStep(channels, dtype),
            (f32("latents", *face), out, noise, f32("mix", 2 + noises)),
            (
                f32("next", *face),
                own("noisy", channels, hop, size, size),
                own("clean", *face),
                *warp,
            ),
            1,
        ),
        "hop_finish": (HopFinish(), (image,), (crops,), hop),
        "crop_start": (
            CropStart(torch.from_numpy(mask_image(spec)), dtype),
            (crops, f32("grey", 1)),
            (image,),
            hop,
        ),
        "crop_finish": (CropFinish(), (own("latents", *latents),), (f32("wide", *latents),), hop),
    }


def _write(module: nn.Module, graph: HopGraph, opset: int) -> None:
    names = [tensor.name for tensor in graph.inputs]
    results = [tensor.name for tensor in graph.outputs]
    rows = graph.rows(2)
    inputs = [torch.zeros(t.at(rows), dtype=TORCH_DTYPES[t.dtype]) for t in graph.inputs]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            tuple(inputs),
            graph.path,
            dynamo=False,
            opset_version=OPSETS["f32"],
            input_names=names,
            output_names=results,
            dynamic_axes={name: {0: BATCH_AXIS} for name in (*names, *results)},
        )
    model = onnx.load(str(graph.path))
    model.opset_import[0].version = opset
    model.ir_version = IR_VERSION
    specs = {tensor.name: tensor for tensor in (*graph.inputs, *graph.outputs)}
    for item in (*model.graph.input, *model.graph.output):
        kind = item.type.tensor_type.elem_type
        item.CopyFrom(helper.make_tensor_value_info(item.name, kind, specs[item.name].shape))
    graph.path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(graph.path))
