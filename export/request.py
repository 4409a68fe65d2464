"""What is to be exported: one network of a model, at one hop length and precision.

    request = ExportRequest.of("bundled", "unet", batches=(1, 2), precision="f16")

No torch: the command checks what was asked for before anything heavy is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from engine.checkpoints import resolve_model
from engine.errors import ConfigError
from engine.spec import ModelSpec

if TYPE_CHECKING:
    from export.f8.recipe import Quantisation

Component = Literal["unet", "decoder", "encoder", "audio"]
Precision = Literal["f32", "f16", "bf16", "f8"]
DType = Literal["f32", "f16", "bf16", "i64", "u8"]

COMPONENTS: tuple[Component, ...] = get_args(Component)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
# The names that a model folder's own graphs have.
GRAPH_NAMES: dict[Component, str] = {
    "unet": "unet",
    "decoder": "codec_decoder",
    "encoder": "codec_encoder",
    "audio": "audio_encoder",
}
BATCH_AXIS = "batch"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """An input or output of an exported network.

    Attributes:
        shape: axis 0 is `BATCH_AXIS`; the others are numbers.
    """

    name: str
    dtype: DType
    shape: tuple[int | str, ...]

    def at(self, rows: int) -> tuple[int, ...]:
        """The shape with so many rows on the batch axis."""
        return tuple(rows if axis == BATCH_AXIS else int(axis) for axis in self.shape)


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """One network of a model, to be exported.

    Attributes:
        model_dir: a model folder with weights.
        spec: of that model.
        hop_frames: new frames a call; where it is the whole window the U-Net has no rings, and
            all frames see all frames.
        batches: sessions a call that the export is checked at, and that a target which compiles
            for fixed shapes compiles for; rising. The graph itself leaves the number open.
        precision: of weights and activations. In 16 bits norms stay in f32. f8 is f16 whose
            products read 8-bit floats.
        quantisation: which products of f8, and their ranges; None until it is calibrated.
    """

    model_dir: Path
    spec: ModelSpec
    component: Component
    hop_frames: int
    batches: tuple[int, ...] = (1,)
    precision: Precision = "f32"
    quantisation: Quantisation | None = None

    def __post_init__(self) -> None:
        """Raises ConfigError, saying what is possible, where the parts do not fit."""
        if self.component not in COMPONENTS:
            raise ConfigError(
                f"expected a component of {', '.join(COMPONENTS)}, got {self.component!r}"
            )
        if self.precision not in PRECISIONS:
            raise ConfigError(
                f"expected a precision of {', '.join(PRECISIONS)}, got {self.precision!r}; "
                "int8 is not offered, docs/backends.md says why"
            )
        if not 1 <= self.hop_frames <= self.spec.window_frames:
            raise ConfigError(
                f"expected a hop of 1 to {self.spec.window_frames} frames for {self.spec.name}, "
                f"got {self.hop_frames}"
            )
        rising = sorted(set(self.batches)) == list(self.batches)
        if not self.batches or self.batches[0] < 1 or not rising:
            raise ConfigError(
                f"expected batches of 1 or more that rise, 1,2,4 for example, got {self.batches}"
            )

    @classmethod
    def of(
        cls,
        model: str | Path,
        component: Component,
        *,
        hop_frames: int | None = None,
        batches: tuple[int, ...] = (1,),
        precision: Precision = "f32",
    ) -> ExportRequest:
        """A request for a model by name or folder.

        Args:
            hop_frames: None: the model's own.

        Raises:
            ModelError: there is no such model.
            ConfigError: what is asked for is not possible.
        """
        folder = resolve_model(model)
        spec = ModelSpec.read(folder)
        hop = spec.hop_frames if hop_frames is None else hop_frames
        return cls(folder, spec, component, hop, batches, precision)

    @property
    def name(self) -> str:
        """Of the exported files, without a suffix."""
        return GRAPH_NAMES[self.component]

    @property
    def dtype(self) -> DType:
        """Of inputs, outputs, and of whatever the graph has no other type for."""
        return "f16" if self.precision == "f8" else self.precision

    @property
    def context_frames(self) -> int:
        """Carried frames that the U-Net reads from rings."""
        return self.spec.window_frames - self.hop_frames

    @property
    def served_otherwise(self) -> str:
        """Why this U-Net is not the one that the model's own window mode runs; empty if it is."""
        whole = self.spec.carry in ("pinned", "disjoint")
        if self.component != "unet" or not whole or not self.context_frames:
            return ""
        return (
            f"a U-Net of hop {self.hop_frames} reads rings, as the window modes carry and causal "
            f"do; {self.spec.name} is served in {self.spec.carry}, which runs whole windows: "
            f"--hop {self.spec.window_frames}"
        )

    def rows(self, batch: int) -> int:
        """The length of the batch axis for so many sessions.

        The U-Net has a row a session, the other networks one for each frame of each hop.
        """
        return batch if self.component == "unet" else batch * self.hop_frames
