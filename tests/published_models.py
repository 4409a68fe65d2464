"""A published model in miniature: files as the hub has them, with random weights.

published, repos = make_published()
with StandIn(repos) as hub: ...
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
from collections.abc import Mapping

import torch
from safetensors.torch import save
from torch import Tensor

from engine.models.build import build_audio_encoder, build_unet
from engine.models.kl_vae import KlCodec
from engine.models.whisper import sinusoids
from engine.published import LATENTSYNC_1_5, HubFile, PublishedModel
from engine.spec import CodecSpec, ModelSpec
from tests.tiny_models import TINY_SPEC, randomize

WEIGHTS, CODEC, FACES = "ByteDance/LatentSync-1.5", "stabilityai/sd-vae-ft-mse", "faces/models"
WHISPER_POSITIONS = 40  # of the published table; the served window has fewer

TINY_PUBLISHED = dataclasses.replace(
    LATENTSYNC_1_5,
    resolution=32,
    audio=TINY_SPEC.audio,
    unet=dataclasses.replace(
        TINY_SPEC.unet,
        motion_decoder_only=False,
        per_frame_norm=False,
        time_scale_shift=False,
        audio_film=False,
    ),
    codec=CodecSpec(kind="kl", block_out_channels=(32,) * 4, layers_per_block=1),
    face=TINY_SPEC.face,
)
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


def unet_checkpoint(spec: ModelSpec) -> dict[str, object]:
    """What `latentsync_unet.pt` holds."""
    unet = build_unet(spec)
    randomize(unet, 1)
    return {"global_step": 7, "state_dict": dict(unet.state_dict())}


def whisper_checkpoint(spec: ModelSpec) -> dict[str, object]:
    """What `tiny.pt` holds: both halves, in halves, with the whole table of positions."""
    encoder = build_audio_encoder(spec)
    randomize(encoder, 2)
    state: dict[str, Tensor] = {key: value.half() for key, value in encoder.state_dict().items()}
    state["encoder.positional_embedding"] = sinusoids(WHISPER_POSITIONS, spec.audio.width).half()
    state["decoder.token_embedding.weight"] = torch.rand(5, spec.audio.width).half()
    return {"dims": {"n_audio_ctx": WHISPER_POSITIONS}, "model_state_dict": state}


def codec_checkpoint(spec: ModelSpec) -> dict[str, Tensor]:
    """What sd-vae-ft-mse holds, its attention layers under their old names."""
    codec = KlCodec(spec.codec)
    randomize(codec, 3)
    state: dict[str, Tensor] = {}
    for key, value in codec.state_dict().items():
        for new, old in _OLD_ATTENTION.items():
            key = key.replace(f".attentions.0.{new}.", f".attentions.0.{old}.")
        state[key] = value.contiguous()
    return state


def pt(content: object) -> bytes:
    """A `.pt` file."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def make_published(
    spec: ModelSpec = TINY_PUBLISHED,
) -> tuple[PublishedModel, dict[str, dict[str, bytes]]]:
    """A model to fetch, and the hub's repositories that have it."""
    repos = {
        WEIGHTS: {
            "latentsync_unet.pt": pt(unet_checkpoint(spec)),
            "whisper/tiny.pt": pt(whisper_checkpoint(spec)),
        },
        CODEC: {"diffusion_pytorch_model.safetensors": save(codec_checkpoint(spec))},
        FACES: {"buffalo_l/det_10g.onnx": b"detector", "buffalo_l/2d106det.onnx": b"landmarks"},
    }
    return published_as(spec, repos), repos


def published_as(spec: ModelSpec, repos: Mapping[str, Mapping[str, bytes]]) -> PublishedModel:
    """The model whose files are those of the repositories."""
    files = {
        path: HubFile(repo, path, len(data), hashlib.sha256(data).hexdigest())
        for repo, paths in repos.items()
        for path, data in paths.items()
    }
    return PublishedModel(
        spec=spec,
        unet=files["latentsync_unet.pt"],
        audio_encoder=files["whisper/tiny.pt"],
        codec=files["diffusion_pytorch_model.safetensors"],
        faces=(files["buffalo_l/det_10g.onnx"], files["buffalo_l/2d106det.onnx"]),
    )
