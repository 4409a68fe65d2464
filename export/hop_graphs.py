"""What happens to a hop between its networks, as graphs without weights.

With these a hop runs on a device from log-mels to pictures, and nothing comes back to the host in
between. They are compiled as the networks are; n is the session's number of fixed noises.

| graph | inputs | outputs |
|---|---|---|
| hop_start | mel [b, h, n_mels, 2P], noise [b, n, C, s, s], | network_mel [b, h, n_mels, 2P], |
|  | masked, reference [b, h, C, s, s] | latents [b, h, C, s, s], sample [b, r, 3C+1, f, s, s] |
|  | pinned: past_latents, past_masked, past_reference | pinned: window_masked, |
|  | [b, c, C, s, s], pin [b, 1 + n] | window_reference [b, f, C, s, s] |
| hop_audio | tokens [b, h, tokens, width], | audio [b, r, f, tokens, width] |
|  | pinned: past_tokens [b, c, tokens, width] | |
| hop_step | latents [b, h, C, s, s], out [b, r, P, f, s, s], | next [b, h, C, s, s], |
|  | noise [b, n, C, s, s], mix [b, 1 + r + n] | noisy [b, r, C, f, s, s], clean [b, h, C, s, s], |
|  | pinned: past_latents, pin | warp [b, h, P - C, s, s] where there is one, |
|  | | pinned: window_latents [b, f, C, s, s] |
| hop_finish | image [b * h, 3, R, R] | crops [b * h, R, R, 3] |
| crop_start | crops [b * h, R, R, 3], grey [b * h, 1] | image [b * h, 3, R, R] |
| crop_finish | latents [b * h, C, s, s] | wide [b * h, C, s, s] |

f is the number of frames that the U-Net sees, r the rows that it has for each session: 2 where
steps are guided, without sound and with it; an axis r of 1 is left out. "pinned": where the c
frames before are denoised again with the new ones (`engine.plan_runtime.hop_way`).

A denoising step is a weighted sum, `next = mix . (latents, outs, noises)`: one graph serves every
solver, every step and guidance; so is what a pinned frame is before a step, `pin . (past, noises)`
(`engine.plan_runtime.mixing`). `noisy` is what the next step's sample begins with, `clean` what the
decoder reads after the last one. `grey` is 1.0 where the generated part of a crop is greyed out.
crops are uint8; latents, noises, weights, next, warp, wide, and what hop_start reads are f32, but
for past_masked and past_reference; all else has the precision of the networks.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import helper
from torch import nn

from engine.face.mask import mask_image, mask_latents
from engine.plan_runtime.hop_way import branches_of, is_pinned, network_frames
from engine.plan_runtime.mixing import noises_of
from export.component_graph import IR_VERSION, OPSETS
from export.hop_modules import (
    CropFinish,
    CropStart,
    HopAudio,
    HopFinish,
    HopStart,
    HopStep,
    PinnedHopStart,
    PinnedHopStep,
)
from export.networks import TORCH_DTYPES
from export.request import BATCH_AXIS, ExportRequest, TensorSpec

# Of every way of running; "hop_audio" is there where the U-Net sees other sound than the hop's.
HOP_GRAPHS = ("hop_start", "hop_step", "hop_finish", "crop_start", "crop_finish")


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
    pinned, branches = is_pinned(spec, hop), branches_of(spec)
    frames, past = network_frames(spec, hop), (spec.window_frames - hop, *latents)
    tokens = (spec.audio.tokens, spec.audio.width)
    twice = (branches,) if branches > 1 else ()

    def f32(name: str, *shape: int) -> TensorSpec:
        return TensorSpec(name, "f32", (BATCH_AXIS, *shape))

    def own(name: str, *shape: int) -> TensorSpec:
        return TensorSpec(name, kind, (BATCH_AXIS, *shape))

    image = own("image", 3, side, side)
    crops = TensorSpec("crops", "u8", (BATCH_AXIS, side, side, 3))
    out = own("out", *twice, channels + warps, frames, size, size)
    pin = f32("pin", 1 + noises)
    past_latents = f32("past_latents", *past)
    before = (past_latents, own("past_masked", *past), own("past_reference", *past), pin)
    window = (frames, *latents)
    noise = f32("noise", noises, *latents)
    warp = (f32("warp", hop, warps, size, size),) if warps else ()
    return {
        "hop_start": (
            (PinnedHopStart if pinned else HopStart)(
                torch.from_numpy(mask_latents(spec)), dtype, branches
            ),
            (
                *(f32("mel", hop, *mels), noise, f32("masked", *face), f32("reference", *face)),
                *(before if pinned else ()),
            ),
            (
                own("network_mel", hop, *mels),
                f32("latents", *face),
                own("sample", *twice, 3 * channels + 1, frames, size, size),
                *(
                    (own("window_masked", *window), own("window_reference", *window))
                    if pinned
                    else ()
                ),
            ),
            1,
        ),
        "hop_audio": (
            HopAudio(branches),
            (
                own("tokens", hop, *tokens),
                *((own("past_tokens", past[0], *tokens),) if pinned else ()),
            ),
            (own("audio", *twice, frames, *tokens),),
            1,
        ),
        "hop_step": (
            (PinnedHopStep if pinned else HopStep)(channels, dtype, branches, hop),
            (
                *(f32("latents", *face), out, noise, f32("mix", 1 + branches + noises)),
                *((past_latents, pin) if pinned else ()),
            ),
            (
                f32("next", *face),
                own("noisy", *twice, channels, frames, size, size),
                own("clean", *face),
                *((f32("window_latents", *window),) if pinned else ()),
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
