"""Models, inputs, avatars and speech without files, for benchmarks of speed and of numerics.

    spec = spec_of("published", codec="kl")
    model = model_of("published", spec, device, "bf16")
    spec = way_of(spec, mode="carry", steps=2, hop=4)

The size `bundled` is the real model with its weights; `published` is LatentSync 1.5's architecture
and `tiny` a small one with the same kinds of layers, both with synthetic weights.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np
import torch

from engine.avatar import Avatar, PreparedAvatar, prepare_avatar
from engine.backends.base import Backend, HopInput
from engine.backends.inputs import latents_shape
from engine.checkpoints import resolve_model
from engine.denoise.model import TorchModel
from engine.errors import ConfigError
from engine.face.align import latentsync_face
from engine.media import F32, FPS, SAMPLE_RATE_HZ, Picture
from engine.models.build import build_codec
from engine.published import LATENTSYNC_1_5, LATENTSYNC_1_6
from engine.sampler import trailing_timesteps
from engine.spec import AudioSpec, CarryMode, CodecSpec, ModelSpec, UNetSpec

Size = Literal["tiny", "bundled", "published"]
CodecName = Literal["kl", "kl-rows", "taesd", "tiny"]

SIZES = get_args(Size)
CODECS = get_args(CodecName)

SPEECH_RMS = 0.1
SYLLABLE_HZ = 4.0
FACE_SPREAD = 0.35  # of the picture's height: a face that fills a portrait
# The KL codec of the size `tiny`: the published one is a hundred times too large for it.
_NARROW_KL = CodecSpec(
    "kl", block_out_channels=(8, 8, 16, 16), layers_per_block=1, norm_num_groups=8
)


def _codec_spec(size: Size, codec: CodecName) -> CodecSpec:
    # TAESD's latents are the scaled ones; so are those of a tiny codec without weights.
    if not codec.startswith("kl"):
        return CodecSpec("taesd" if codec == "taesd" else "tiny", scaling_factor=1.0)
    kl = _NARROW_KL if size == "tiny" else CodecSpec("kl")
    return dataclasses.replace(kl, decode_rows=codec == "kl-rows")


def spec_of(size: Size, resolution: int | None = None, codec: CodecName | None = None) -> ModelSpec:
    """A model's spec.

    Args:
        resolution: of the face crop; None: the size's own (64, 128, 256).
        codec: None: the size's own ("taesd", "tiny", "kl").

    Raises:
        ConfigError: another resolution or codec of the bundled model, whose weights are fixed.
    """
    if size == "bundled":
        spec = ModelSpec.read(resolve_model("bundled"))
        if resolution not in (None, spec.resolution) or codec not in (None, spec.codec.kind):
            raise ConfigError(
                f"expected the bundled model's own {spec.resolution} px and codec "
                f"{spec.codec.kind!r}, got {resolution} and {codec!r}"
            )
        return spec
    if size == "published":
        published = LATENTSYNC_1_6 if resolution == LATENTSYNC_1_6.resolution else LATENTSYNC_1_5
        resolution = resolution or published.resolution
        return dataclasses.replace(
            published,
            name=f"{published.name}, synthetic weights",
            resolution=resolution,
            codec=_codec_spec(size, codec or "kl"),
            face=latentsync_face(resolution),
        )
    resolution = resolution or 64
    audio = AudioSpec(width=16, layers=1, heads=2, positions=16)
    unet = UNetSpec(
        block_out_channels=(16, 32),
        attention_blocks=(True, True),
        layers_per_block=1,
        attention_heads=2,
        cross_attention_dim=16,
        audio_tokens=audio.tokens,
        norm_num_groups=8,
        motion_heads=2,
    )
    return ModelSpec(
        name="tiny, synthetic weights",
        licence="Apache-2.0",
        resolution=resolution,
        audio=audio,
        unet=unet,
        codec=_codec_spec(size, codec or "taesd"),
        face=latentsync_face(resolution),
    )


def way_of(
    spec: ModelSpec, *, mode: CarryMode, steps: int, hop: int, refresh_hops: int = 0
) -> ModelSpec:
    """The spec with another way to denoise; no guidance, timesteps trailing."""
    return dataclasses.replace(
        spec,
        carry=mode,
        timesteps=tuple(trailing_timesteps(steps)),
        hop_frames=hop,
        refresh_hops=refresh_hops,
        guidance_scale=1.0,
        guided_steps=None,
    )


def model_of(size: Size, spec: ModelSpec, device: torch.device, precision: str) -> TorchModel:
    """The size's model on a device."""
    if size == "bundled":
        return TorchModel.load(resolve_model("bundled"), device, precision)
    return TorchModel.random(spec, device, precision)


def with_codec(model: TorchModel, spec: ModelSpec) -> TorchModel:
    """The model with a codec of `spec.codec` and fresh weights; the other networks are shared."""
    with torch.random.fork_rng(), torch.device(model.device):
        torch.manual_seed(0)
        codec = build_codec(spec)
    codec.eval().requires_grad_(False)
    return dataclasses.replace(model, codec=codec.to(model.device, model.dtype))


def hop_inputs(backend: Backend, hop: int, batch: int, seed: int = 0) -> list[HopInput]:
    """One hop of `batch` new sessions, with random inputs."""
    spec = backend.spec
    dice = np.random.default_rng(seed)
    face = (hop, *latents_shape(spec))
    mel = (hop, spec.audio.n_mels, spec.audio.mel_frames)
    return [
        HopInput(
            backend.new_session(hop_frames=hop, seed=session),
            dice.standard_normal(mel, np.float32),
            dice.standard_normal(face, np.float32),
            dice.standard_normal(face, np.float32),
        )
        for session in range(batch)
    ]


def next_inputs(before: list[HopInput], dice: np.random.Generator) -> list[HopInput]:
    """The next hop of the same sessions."""
    return [
        HopInput(
            item.state,
            dice.standard_normal(item.mel.shape, np.float32),
            dice.standard_normal(item.masked_latents.shape, np.float32),
            dice.standard_normal(item.ref_latents.shape, np.float32),
        )
        for item in before
    ]


def synthetic_avatar(backend: Backend, *, frames: int = 8, height: int = 512) -> PreparedAvatar:
    """A square clip of noise with a face in its middle, prepared for the backend's model."""
    dice = np.random.default_rng(0)
    pictures = tuple(
        Picture(dice.integers(0, 255, (height * 3 // 2, height), np.uint8)) for _ in range(frames)
    )
    spread, middle = FACE_SPREAD * height, height / 2
    points = [[middle - spread / 2, middle], [middle + spread / 2, middle]]
    points.append([middle, middle + spread / 2])
    avatar = Avatar(
        name="synthetic",
        title="Synthetic",
        licence="CC0",
        loop="wrap",
        pictures=pictures,
        points=np.repeat(np.array([points], np.float32), frames, axis=0),
        reference_frame=0,
    )
    return prepare_avatar(avatar, backend)


def synthetic_speech(frames: int, seed: int = 0) -> F32:
    """float32 sound of so many video frames: noise that swells as syllables do, never silent."""
    count = frames * SAMPLE_RATE_HZ // FPS
    noise = np.random.default_rng(seed).standard_normal(count)
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * SYLLABLE_HZ * np.arange(count) / SAMPLE_RATE_HZ)
    return np.asarray(SPEECH_RMS * noise * swell, np.float32)
