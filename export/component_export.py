"""Exports one network to one target, and holds the result against torch.

    record = export_component(load_target("onnx"), request, folder)

Torch runs the model's own weights in f32 on golden inputs, and what was built runs on the same
ones. The errors are written beside the files, as `request.name` .export.json. Where one is over the
tolerance the files are not kept, only the record, as `request.name` .failed.json.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from engine.checkpoints import file_digest
from engine.errors import ConfigError, ModelError
from export.f8.calibration import served_inputs
from export.f8.prepare import prepared
from export.f8.recipe import DEFAULT_RECIPE, Recipe
from export.networks import empty_network, golden_inputs, loaded_network
from export.parity import OutputError, output_error
from export.request import ExportRequest, Precision
from export.targets import Built, Report, Target, silent
from export.tolerances import TOLERANCES, tolerance_of

SCHEMA_VERSION = 1

# CPUs run graphs of f16 in f32, so the errors would not show an overflow.
LARGEST_F16 = 65_504.0


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """What was exported, by what, and how near to torch it is.

    Attributes:
        files: name -> SHA-256.
        inputs, outputs: name, dtype and shape of each; "batch" is the open axis.
        tolerance, carried_tolerance: of the network's own outputs, and of what is carried.
        errors: of every output at every batch; none where it could not be run.
        largest_activation: of any layer in f32 on the golden inputs, where the export has f16,
            which overflows at 65,504.
        quantisation: of f8: the recipe, the range of every layer's input, the digest of what it
            was calibrated on, layers that were kept in f16, and the digest of all that.
        not_run: why it could not.
        passed: every error is within the tolerance, and nothing overflows; not so where nothing
            was run.
    """

    model: str
    component: str
    target: str
    precision: Precision
    hop_frames: int
    batches: tuple[int, ...]
    files: dict[str, str]
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    versions: dict[str, str]
    runtime: str
    tolerance: float
    carried_tolerance: float
    errors: list[OutputError]
    largest_activation: float | None
    quantisation: dict[str, Any] | None
    not_run: str
    passed: bool
    schema_version: int = SCHEMA_VERSION

    @property
    def worst(self) -> OutputError | None:
        """The output that is furthest from torch, for its tolerance."""
        return max(self.errors, key=self._share, default=None)

    def _share(self, error: OutputError) -> float:
        return error.relative / tolerance_of(self.precision, error.output)


def export_component(
    target: Target,
    request: ExportRequest,
    folder: Path,
    report: Report = silent,
    recipe: Recipe = DEFAULT_RECIPE,
) -> ExportRecord:
    """Builds, checks and keeps one network; the record as written.

    Args:
        folder: made if it is not there; files of the same names are replaced, all or none.
        recipe: of f8, which is calibrated here.

    Raises:
        ConfigError: the target does not take this component in this precision.
        BackendError: the compiler or the runtime refused it.
        ModelError: an output is further from torch than the tolerance, or f16 would overflow.
    """
    if refusal := target.refuses(request.component, request.precision):
        raise ConfigError(refusal)
    folder.mkdir(parents=True, exist_ok=True)
    served: list[list[Tensor]] = []
    if request.precision == "f8":
        request, served = prepared(request, recipe, report)
    with TemporaryDirectory(dir=folder, prefix=".partial-") as scratch:
        built = target.build(request, Path(scratch), report)
        golden = _golden(request, served, report)
        record = _record(target, request, built, golden, _errors(built, request, golden, report))
        text = json.dumps(asdict(record), indent=1) + "\n"
        failed = folder / f"{request.name}.failed.json"
        if _overflows(record):
            failed.write_text(text, encoding="utf-8")
            raise ModelError(
                f"{request.name} in {request.precision}: expected activations of at most "
                f"{LARGEST_F16:,.0f} on golden inputs, got {golden.largest_activation:,.0f}; "
                f"bf16 has the range; see {failed}"
            )
        worst = record.worst
        if worst is not None and not record.passed:
            failed.write_text(text, encoding="utf-8")
            raise ModelError(
                f"{request.name} for {target.name} in {request.precision}: expected a relative "
                f"error of at most {tolerance_of(record.precision, worst.output):g} against "
                f"torch, got {worst.relative:.2e} "
                f"in {worst.output} ({worst.case}); not kept, see {failed}"
            )
        kept = folder / f"{request.name}.export.json"
        for stale in (failed, kept):  # a record never lies beside files of another export
            stale.unlink(missing_ok=True)
        for file in built.files:
            shutil.move(file, folder / file.name)
        kept.write_text(text, encoding="utf-8")
    return record


def _overflows(record: ExportRecord) -> bool:
    return record.largest_activation is not None and record.largest_activation > LARGEST_F16


@dataclass(frozen=True, slots=True)
class _Golden:
    """What torch makes of golden inputs, by batch: inputs, and outputs in f32."""

    cases: dict[int, tuple[list[Tensor], list[Tensor]]]
    largest_activation: float


@torch.inference_mode()
def _golden(request: ExportRequest, served: list[list[Tensor]], report: Report) -> _Golden:
    """Runs torch; its weights are gone when this returns.

    Args:
        served: inputs of a stream, without which the ranges of f8 mean nothing; none: inputs
            are drawn.
    """
    report(f"{request.name}: torch's weights", 0, 0)
    network = loaded_network(request)
    largest = [0.0]

    def look(_layer: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            largest.append(float(output.abs().max()))

    for layer in network.module.modules():
        layer.register_forward_hook(look)
    cases = {}
    for batch in request.batches:
        report(f"{request.name}: torch on golden inputs, batch {batch}", 0, 0)
        if served:
            inputs = served_inputs(network, served, batch)
        else:
            inputs = golden_inputs(network, request, batch)
        wide = [value.float() if value.is_floating_point() else value for value in inputs]
        outputs = network.module(*wide)
        cases[batch] = (inputs, [outputs] if isinstance(outputs, Tensor) else [*outputs])
    return _Golden(cases, max(largest))


def _errors(
    built: Built, request: ExportRequest, golden: _Golden, report: Report
) -> list[OutputError]:
    """Every output's error at every batch; none where it cannot be run."""
    if built.run is None:
        return []
    names = [tensor.name for tensor in empty_network(request).outputs]
    errors = []
    for batch, (inputs, wanted) in golden.cases.items():
        report(f"{request.name}: {built.runtime} on golden inputs, batch {batch}", 0, 0)
        got = built.run(inputs)
        for name, ours, reference in zip(names, got, wanted, strict=True):
            errors.append(output_error(f"batch {batch}", name, ours.float().numpy(), reference))
    return errors


def _record(
    target: Target,
    request: ExportRequest,
    built: Built,
    golden: _Golden,
    errors: list[OutputError],
) -> ExportRecord:
    network = empty_network(request)
    quantisation = request.quantisation
    record = ExportRecord(
        model=request.spec.name,
        component=request.component,
        target=target.name,
        precision=request.precision,
        hop_frames=request.hop_frames,
        batches=request.batches,
        files={file.name: file_digest(file) for file in built.files},
        inputs=[asdict(tensor) for tensor in network.inputs],
        outputs=[asdict(tensor) for tensor in network.outputs],
        versions=dict(built.versions),
        runtime=built.runtime,
        tolerance=TOLERANCES[request.precision],
        carried_tolerance=tolerance_of(request.precision, "new_ring"),
        errors=errors,
        largest_activation=golden.largest_activation if request.dtype == "f16" else None,
        quantisation=None
        if quantisation is None
        else {**quantisation.to_dict(), "sha256": quantisation.digest()},
        not_run=built.not_run,
        passed=bool(errors)
        and all(
            error.relative <= tolerance_of(request.precision, error.output) for error in errors
        ),
    )
    return replace(record, passed=record.passed and not _overflows(record))
