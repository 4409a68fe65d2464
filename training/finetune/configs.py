"""The published configurations of stage 2, and which parameters each of them trains.

Numbers are those of LatentSync's `configs/unet/stage2.yaml`, `stage2_efficient.yaml` and
`stage2_512.yaml`; memory is what its documentation says of a batch of one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from engine.errors import ConfigError
from engine.spec import UNetSpec

MOTION = "motion_modules."


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What each loss counts; 0: it is not computed, and its network not needed.

    Attributes:
        recon: mean squared error of the predicted noise.
        perceptual: LPIPS of the lower half of the decoded frames.
        sync: StableSyncNet's opinion of them.
        temporal: TREPA, the clip's place in VideoMAE's features.
    """

    recon: float = 1.0
    perceptual: float = 0.1
    sync: float = 0.05
    temporal: float = 10.0

    def __post_init__(self) -> None:
        values = (self.recon, self.perceptual, self.sync, self.temporal)
        if min(values) < 0 or max(values) == 0:
            raise ConfigError(f"expected weights of losses >= 0 and one above, got {values}")

    @property
    def in_pixels(self) -> bool:
        """Whether frames have to be decoded."""
        return max(self.perceptual, self.sync, self.temporal) > 0


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """One way to train.

    Attributes:
        base: the published model that it starts from, unless told otherwise.
        resolution: of the face crops.
        trainable: a parameter is trained whose name holds one of these.
        motion_decoder_only: the temporal modules of the encoder are left away.
        mixed_noise_alpha: the noise that frames share, over the noise of each alone.
        frames: of a clip, all of which see each other.
        published_memory_gb: of one GPU at batch 1.
    """

    name: str
    base: str
    resolution: int
    trainable: tuple[str, ...]
    motion_decoder_only: bool
    losses: LossWeights
    published_memory_gb: float
    learning_rate: float = 1e-5
    max_grad_norm: float = 1.0
    mixed_noise_alpha: float = 1.0
    frames: int = 16
    seed: int = 1247

    def unet_spec(self, base: UNetSpec) -> UNetSpec:
        """The network that is trained, of the one that it starts from."""
        return replace(base, motion_decoder_only=self.motion_decoder_only)

    def without(self, *names: str) -> FinetuneConfig:
        """The configuration with these losses off."""
        return replace(self, losses=replace(self.losses, **dict.fromkeys(names, 0.0)))


STAGE2 = FinetuneConfig(
    name="stage2",
    base="latentsync-1.5",
    resolution=256,
    trainable=(MOTION, "attentions."),
    motion_decoder_only=False,
    losses=LossWeights(),
    published_memory_gb=30.0,
)
CONFIGS = {
    config.name: config
    for config in (
        STAGE2,
        replace(
            STAGE2,
            name="stage2_efficient",
            trainable=(MOTION, "attn2."),
            motion_decoder_only=True,
            losses=LossWeights(temporal=0.0),
            published_memory_gb=20.0,
        ),
        replace(
            STAGE2,
            name="stage2_512",
            base="latentsync-1.6",
            resolution=512,
            published_memory_gb=55.0,
        ),
    )
}


def choose_trainable(unet: nn.Module, config: FinetuneConfig) -> dict[str, nn.Parameter]:
    """The parameters that the configuration trains, by name; all others are frozen.

    Raises:
        ConfigError: a part's name is in no parameter.
    """
    unet.requires_grad_(False)
    chosen = {
        name: parameter
        for name, parameter in unet.named_parameters()
        if any(part in name for part in config.trainable)
    }
    for part in config.trainable:
        if not any(part in name for name in chosen):
            raise ConfigError(f"expected parameters whose name holds {part!r}, found none")
    for parameter in chosen.values():
        parameter.requires_grad_(True)
    return chosen
