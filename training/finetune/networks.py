"""The networks of a run: the U-Net that is trained, and the frozen ones around it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from engine.checkpoints import UNET_FILE, load_audio_encoder, load_codec
from engine.errors import ConfigError
from engine.models.build import AnyCodec, build_unet
from engine.models.unet import UNet3DConditionModel
from engine.models.whisper import WhisperEncoder
from engine.spec import ModelSpec
from training.finetune.configs import MOTION, FinetuneConfig, choose_trainable
from training.finetune.weights import PixelLosses
from training.strict_weights import load_renamed

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Networks:
    """All that a step computes with.

    Attributes:
        spec: of the model that is trained.
        trained: the U-Net's parameters that change, by name, in f32.
        dtype: that the frozen networks run in.
    """

    spec: ModelSpec
    unet: UNet3DConditionModel
    trained: dict[str, nn.Parameter]
    codec: AnyCodec
    audio_encoder: WhisperEncoder
    losses: PixelLosses
    dtype: torch.dtype


def trained_spec(base: ModelSpec, config: FinetuneConfig) -> ModelSpec:
    """The model that the configuration makes of a base.

    Raises:
        ConfigError: the base does not fit it.
    """
    if base.resolution != config.resolution:
        raise ConfigError(
            f"{config.name} trains at {config.resolution} px, {base.name} is made for "
            f"{base.resolution}"
        )
    if base.prediction_type != "epsilon":
        raise ConfigError(f"expected a model that predicts noise, {base.name} does not")
    if base.unet.motion_decoder_only and not config.motion_decoder_only:
        raise ConfigError(
            f"{config.name} trains temporal modules in the encoder, {base.name} has none; "
            "stage2_efficient trains those it has"
        )
    return replace(
        base,
        name=base.name if base.name.endswith(config.name) else f"{base.name}-{config.name}",
        unet=config.unet_spec(base.unet),
        digests={},
    )


def load_unet(
    folder: Path, spec: ModelSpec, device: torch.device, dtype: torch.dtype = torch.float32
) -> UNet3DConditionModel:
    """The base's U-Net, without the temporal modules that `spec` has no place for.

    Raises:
        ModelError: its weights cannot be read, or do not fit otherwise (StateDictMismatch).
    """

    def kept(key: str) -> str:
        in_encoder = key.startswith("down_blocks.") and MOTION in key
        return "" if spec.unet.motion_decoder_only and in_encoder else key

    return load_renamed(lambda: build_unet(spec), folder / UNET_FILE, kept, device, dtype)


def load_networks(
    folder: Path,
    config: FinetuneConfig,
    losses: PixelLosses,
    device: torch.device,
    dtype: torch.dtype,
) -> Networks:
    """The networks of a run that starts from a model folder.

    Raises:
        ConfigError: the model does not fit the configuration.
        ModelError: its weights cannot be read, or do not fit (StateDictMismatch).
    """
    base = ModelSpec.read(folder)
    spec = trained_spec(base, config)
    unet = load_unet(folder, spec, device)
    if base.unet.motion_decoder_only != spec.unet.motion_decoder_only:
        log.info("%s leaves the temporal modules of the encoder away", config.name)
    return Networks(
        spec=spec,
        unet=unet,
        trained=choose_trainable(unet, config),
        codec=load_codec(folder, spec, device, dtype),
        audio_encoder=load_audio_encoder(folder, spec, device, dtype),
        losses=losses,
        dtype=dtype,
    )
