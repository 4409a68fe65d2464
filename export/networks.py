"""The networks of a model as functions of plain tensors, with names and shapes.

| component | inputs | outputs |
|---|---|---|
| audio | mel [b, n_mels, 2P] | tokens [b, tokens, width] |
| encoder | image [b, 3, R, R] | latents [b, C, s, s] |
| decoder | latents [b, C, s, s] | image [b, 3, R, R] |
| unet, a hop | sample [b, 3C+1, h, s, s], timestep [b], | out [b, P, h, s, s], |
|  | audio [b, h, tokens, width], valid [b, c], places [b, c], | |
|  | ring_000.. [b, 2, c, pixels, channels], | new_ring_000.. [b, 2, h, pixels, channels], |
|  | moments_000.. [b, 2, c, groups] | new_moments_000.. [b, 2, h, groups] |
| unet, a window | sample [b, 3C+1, W, s, s], timestep [b], | out [b, P, W, s, s]; |
|  | audio [b, W, tokens, width], present [b, W] | in mode "carry" new keys and moments too |

`valid` is 1.0 where a ring's slot is filled, `places` the position 0 .. c - 1 of each slot: rings
are read where they lie (`engine.denoise.pool`). `present` is 1.0 where the window has a frame.
timestep, valid, present and moments are f32 in every precision, places is int64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from engine.checkpoints import (
    AUDIO_ENCODER_FILE,
    CODEC_FILE,
    TINY_DECODER_FILE,
    UNET_FILE,
    load_audio_encoder,
    load_codec,
    load_unet,
)
from engine.models.build import AnyCodec, build_audio_encoder, build_codec, build_unet
from engine.models.decoder_walk import WholeWalk
from engine.models.tiny_codec import TinyCodec
from engine.models.unet import UNet3DConditionModel
from engine.models.whisper import WhisperEncoder
from engine.spec import ModelSpec
from export.request import BATCH_AXIS, DType, ExportRequest, TensorSpec

TORCH_DTYPES = {
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "u8": torch.uint8,
}


class CodecEncoder(nn.Module):
    """The half of a codec that makes latents.

    They are scaled here, in f32: in 16 bits the factor itself would be rounded, by up to 0.4 %.
    """

    def __init__(self, codec: AnyCodec, factor: float) -> None:
        """
        Args:
            codec: built without a scaling factor.
            factor: that the latents are multiplied by.
        """
        super().__init__()
        self.codec = codec
        self._factor = factor

    def forward(self, image: Tensor) -> Tensor:
        latents = self.codec.encode(image)
        return (latents.float() * self._factor).to(latents.dtype)


class PlainWalk(WholeWalk):
    """Doubles the picture, then convolves.

    The kernel that `WholeWalk` sums up from the weights would be a part of the graph, and exporters
    want kernels to be constants. It costs 622 GFLOP a frame of the published decoder, in place of
    525.
    """

    def upsample(self, module: nn.Conv2d, x: Tensor) -> Tensor:
        return module(F.interpolate(x, scale_factor=2.0, mode="nearest"))  # type: ignore[no-any-return]


class CodecDecoder(nn.Module):
    """The half of a codec that makes pictures; scales as `CodecEncoder` does."""

    def __init__(self, codec: AnyCodec, factor: float) -> None:
        super().__init__()
        self.codec = codec
        self._factor = factor

    def forward(self, latents: Tensor) -> Tensor:
        unscaled = (latents.float() * self._factor).to(latents.dtype)
        if isinstance(self.codec, TinyCodec):
            return self.codec.decode(unscaled)
        return self.codec.decode(unscaled, PlainWalk())


class HopNetwork(nn.Module):
    """The U-Net for new frames after carried ones, which lie in rings."""

    def __init__(self, unet: UNet3DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        audio: Tensor,
        valid: Tensor,
        places: Tensor,
        *rings: Tensor,
    ) -> tuple[Tensor, ...]:
        out, new = self.unet.forward_hop(sample, timestep, audio, valid, list(rings), places)
        return (out, *new)


class WindowNetwork(nn.Module):
    """The U-Net for a whole window in which all frames see all frames that are there."""

    def __init__(self, unet: UNet3DConditionModel, *, keep: bool) -> None:
        super().__init__()
        self.unet = unet
        self._keep = keep

    def forward(
        self, sample: Tensor, timestep: Tensor, audio: Tensor, present: Tensor
    ) -> tuple[Tensor, ...]:
        out, new = self.unet.forward_window(sample, timestep, audio, present, keep=self._keep)
        return (out, *new)


@dataclass(frozen=True, slots=True)
class Network:
    """A network that is to be exported.

    Attributes:
        module: takes `inputs` in order and gives one tensor or a tuple of them.
        weights: the file in the model folder that its weights are in.
        prefix: what its parameters' names have before the file's keys.
    """

    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: Path
    prefix: str


def empty_network(request: ExportRequest) -> Network:
    """The requested network without memory for its weights (on torch's device "meta")."""
    spec = request.spec
    with torch.device("meta"):
        match request.component:
            case "unet":
                return _of_unet(request, build_unet(spec))
            case "audio":
                return _of_audio(request, build_audio_encoder(spec))
            case _:
                return _of_codec(request, build_codec(_unscaled(spec)), spec.codec.scaling_factor)


def loaded_network(request: ExportRequest) -> Network:
    """The requested network with its weights in f32, on the CPU: what exports are held against.

    Raises:
        ModelError: its weights cannot be read or do not fit.
    """
    folder, spec = request.model_dir, request.spec
    match request.component:
        case "unet":
            return _of_unet(request, load_unet(folder, spec))
        case "audio":
            return _of_audio(request, load_audio_encoder(folder, spec))
        case _:
            return _of_codec(request, load_codec(folder, spec), 1.0)


def golden_inputs(network: Network, request: ExportRequest, batch: int) -> list[Tensor]:
    """Inputs of a served kind, from a fixed seed, in the network's own dtypes.

    Of several sessions the first has a full context; each further one lacks its oldest frames.
    Rings are turned, so that a slot's place is not its index.
    """
    generator = torch.Generator().manual_seed(1000 * request.hop_frames + batch)
    values = []
    for tensor in network.inputs:
        shape = tensor.at(request.rows(batch))
        match tensor.name:
            case "timestep":
                value = torch.full(shape, float(request.spec.timesteps[-1]))
            case "image":
                value = 2.0 * torch.rand(shape, generator=generator) - 1.0
            case "present":
                value = _filled(shape)
            case "valid":
                value = torch.gather(_filled(shape), 1, _turned(shape))
            case "places":
                value = _turned(shape)
            case name if name.startswith("moments_"):  # means and variances
                value = torch.randn(shape, generator=generator).mul_(0.1)
                value[:, 1] = 1.0 + value[:, 1].abs()
            case _:
                value = torch.randn(shape, generator=generator)
        values.append(value.to(TORCH_DTYPES[tensor.dtype]))
    return values


def _filled(shape: tuple[int, ...]) -> Tensor:
    batch, frames = shape
    filled = torch.ones(shape)
    for session in range(1, batch):
        filled[session, : frames * session // (2 * batch)] = 0.0
    return filled


def _turned(shape: tuple[int, ...]) -> Tensor:
    batch, slots = shape
    turns = torch.arange(1, batch + 1)[:, None]
    return (torch.arange(slots)[None] + turns) % slots


def _of_audio(request: ExportRequest, encoder: WhisperEncoder) -> Network:
    audio, kind = request.spec.audio, request.dtype
    return Network(
        encoder,
        (TensorSpec("mel", kind, (BATCH_AXIS, audio.n_mels, audio.mel_frames)),),
        (TensorSpec("tokens", kind, (BATCH_AXIS, audio.tokens, audio.width)),),
        request.model_dir / AUDIO_ENCODER_FILE,
        "",
    )


def _of_codec(request: ExportRequest, codec: AnyCodec, factor: float) -> Network:
    """
    Args:
        factor: by which latents are scaled outside of the codec.
    """
    spec, kind = request.spec, request.dtype
    latents = TensorSpec("latents", kind, (BATCH_AXIS, *_latents_shape(spec)))
    image = TensorSpec("image", kind, (BATCH_AXIS, 3, spec.resolution, spec.resolution))
    if request.component == "encoder":
        weights = request.model_dir / CODEC_FILE
        return Network(CodecEncoder(codec, factor), (image,), (latents,), weights, "codec.")
    if spec.codec.decoder == "taesd":  # it reads scaled latents, beside an encoder that does not
        weights, factor = request.model_dir / TINY_DECODER_FILE, 1.0
    else:
        weights = request.model_dir / CODEC_FILE
    return Network(CodecDecoder(codec, 1.0 / factor), (latents,), (image,), weights, "codec.")


def _of_unet(request: ExportRequest, unet: UNet3DConditionModel) -> Network:
    spec, kind = request.spec, request.dtype
    hop, context, size = request.hop_frames, request.context_frames, spec.latent_size
    out = (BATCH_AXIS, spec.unet.prediction_channels, hop, size, size)
    inputs = [
        TensorSpec("sample", kind, (BATCH_AXIS, spec.unet.in_channels, hop, size, size)),
        TensorSpec("timestep", "f32", (BATCH_AXIS,)),
        TensorSpec("audio", kind, (BATCH_AXIS, hop, spec.audio.tokens, spec.audio.width)),
    ]
    outputs = [TensorSpec("out", kind, out)]
    if context:
        inputs.append(TensorSpec("valid", "f32", (BATCH_AXIS, context)))
        inputs.append(TensorSpec("places", "i64", (BATCH_AXIS, context)))
        inputs += _carried(unet, kind, size, context, "")
        module: nn.Module = HopNetwork(unet)
    else:
        inputs.append(TensorSpec("present", "f32", (BATCH_AXIS, hop)))
        module = WindowNetwork(unet, keep=spec.carry == "carry")
    if context or spec.carry == "carry":
        outputs += _carried(unet, kind, size, hop, "new_")
    return Network(module, tuple(inputs), tuple(outputs), request.model_dir / UNET_FILE, "unet.")


def _carried(
    unet: UNet3DConditionModel, kind: DType, size: int, frames: int, prefix: str
) -> list[TensorSpec]:
    rings = [
        TensorSpec(f"{prefix}ring_{index:03d}", kind, (BATCH_AXIS, 2, frames, pixels, channels))
        for index, (pixels, channels) in enumerate(unet.ring_shapes(size))
    ]
    # In f32 as the pool keeps them: a variance of nearly equal numbers needs its digits.
    moments = [
        TensorSpec(f"{prefix}moments_{index:03d}", "f32", (BATCH_AXIS, 2, frames, groups))
        for index, groups in enumerate(unet.moment_shapes())
    ]
    return rings + moments


def _unscaled(spec: ModelSpec) -> ModelSpec:
    return replace(spec, codec=replace(spec.codec, scaling_factor=1.0))


def _latents_shape(spec: ModelSpec) -> tuple[int, int, int]:
    return (spec.codec.latent_channels, spec.latent_size, spec.latent_size)
