"""What a network can be exported to, behind one interface.

    target = load_target("openvino")
    if reason := target.unavailable(): ...
    built = target.build(request, folder, report)

A target is a module with an object that is a `Target`; it is imported when it is asked for, since
each brings a compiler of its own. `export.component_export` does what all have in common.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from engine.errors import BackendError, ConfigError
from export.request import Component, ExportRequest, Precision

if TYPE_CHECKING:
    from torch import Tensor

# Name -> module and object in it.
TARGETS = {
    "onnx": ("export.onnx_target", "TARGET"),
    "openvino": ("export.openvino_target", "TARGET"),
    "tensorrt": ("export.tensorrt_target", "TENSORRT"),
    "tensorrt-rtx": ("export.tensorrt_target", "TENSORRT_RTX"),
    "torch-tensorrt": ("export.torch_tensorrt_target", "TARGET"),
    "aoti": ("export.aoti_target", "TARGET"),
}

Report = Callable[[str, int, int], object]
"""Told of progress: what is being done, how much of it is done, and of how much (0: unknown)."""


def silent(_step: str, _done: int, _total: int) -> None:
    """A `Report` that shows nothing."""


@dataclass(frozen=True, slots=True)
class Built:
    """What a target has made of a network.

    Attributes:
        files: written into the folder; the first one is what a runtime opens.
        runtime: what `run` runs it with, name and version.
        run: outputs of inputs (both in the network's order and dtypes, on the CPU), at each of
            the request's batches; None where this machine can build but not run it.
        not_run: why it cannot be run here; empty where it can.
        versions: of the compiler and of what wrote the graph.
    """

    files: tuple[Path, ...]
    runtime: str
    run: Callable[[Sequence[Tensor]], list[Tensor]] | None
    not_run: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)


class Target(Protocol):
    """One thing that networks are exported to."""

    name: str

    def unavailable(self) -> str | None:
        """Why this machine cannot build for it and what would help; None where it can."""

    def refuses(self, component: Component, precision: Precision) -> str | None:
        """Why it does not take this combination, and what it takes instead; None if it does."""

    def build(self, request: ExportRequest, folder: Path, report: Report) -> Built:
        """Writes the network into `folder`, in files that begin with `request.name`.

        Raises:
            BackendError: the compiler refused it.
        """


def refuses_f8(name: str, component: Component, precision: Precision) -> str | None:
    """Why a target that takes f8 does not take it of this component; None if it does."""
    if precision != "f8" or component == "unet":
        return None
    why = "; a decoder in f8 saves 0.3 MB of the bundled model" if component == "decoder" else ""
    return f"{name} takes f8 of the unet only; of the {component} it takes f16, bf16 and f32{why}"


def lacks_f8(name: str, precision: Precision) -> str | None:
    """Why a target without 8-bit floats does not take f8; None where something else is asked."""
    if precision != "f8":
        return None
    return (
        f"{name} takes f32, f16 and bf16: f8 is a graph with QuantizeLinear, which onnx, tensorrt "
        "and tensorrt-rtx take"
    )


def load_target(name: str) -> Target:
    """The target of that name.

    Raises:
        ConfigError: there is none.
        BackendError: a package that exporting needs is not installed.
    """
    if name not in TARGETS:
        raise ConfigError(f"expected a target of {', '.join(TARGETS)}, got {name!r}")
    module, attribute = TARGETS[name]
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise BackendError(f'export to {name}: {error}; pip install -e ".[export]"') from error
    return cast(Target, getattr(found, attribute))
