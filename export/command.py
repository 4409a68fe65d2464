"""`lipwire export`: a model's networks for a runtime, each held against torch.

lipwire export --model bundled --target onnx --component all
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from engine.errors import BackendError, ConfigError
from export.request import COMPONENTS, Component, ExportRequest, Precision
from export.targets import TARGETS, load_target

# The usual names of precisions beside those of the engine.
PRECISION_NAMES: dict[str, Precision] = {
    **{name: name for name in get_args(Precision)},
    "fp32": "f32",
    "fp16": "f16",
    "fp8": "f8",
}


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `lipwire export`."""
    parser.add_argument("--model", default="bundled", help="name or folder of the model (bundled)")
    parser.add_argument(
        "--target", required=True, metavar="TARGET", help=f"one of {', '.join(TARGETS)}"
    )
    parser.add_argument(
        "--component",
        default="all",
        metavar="COMPONENT",
        help=f"one of {', '.join(COMPONENTS)}, or all that the target takes (all)",
    )
    parser.add_argument("--hop", type=int, help="new frames a call (the model's own)")
    parser.add_argument(
        "--batch", default="1", help="sessions a call, one number or several: 1,2,4 (1)"
    )
    parser.add_argument(
        "--precision",
        default="f32",
        metavar="PRECISION",
        help=f"one of {', '.join(PRECISION_NAMES)} (f32)",
    )
    parser.add_argument(
        "--out", type=Path, help="folder to write to (exports/MODEL-TARGET-PRECISION-hHOP)"
    )
    parser.add_argument("--json", action="store_true", help="the records, for programs")


def run_export(arguments: argparse.Namespace) -> int:
    """`lipwire export` with parsed arguments; returns the exit status.

    Raises:
        ConfigError: what was asked for is not possible; the message says what is.
        BackendError: this machine lacks what the target needs, or it refused the network.
        ModelError: the model cannot be read, or an export is too far from torch.
    """
    requests = requested(arguments)
    target = load_target(arguments.target)
    refusals = {
        request.component: target.refuses(request.component, request.precision)
        for request in requests
    }
    refused = {component: reason for component, reason in refusals.items() if reason}
    if refused and (arguments.component != "all" or len(refused) == len(requests)):
        raise ConfigError(next(iter(refused.values())))
    if reason := target.unavailable():
        raise BackendError(f"cannot export to {target.name} here: {reason}")
    from export.component_export import export_component
    from export.report import Progress, lines

    for component, reason in refused.items():
        sys.stderr.write(f"{component} is left out: {reason}\n")
    requests = [request for request in requests if request.component not in refused]
    for request in requests:
        if note := request.served_otherwise:
            sys.stderr.write(f"note: {note}\n")
    first = requests[0]
    folder: Path = arguments.out or Path("exports") / (
        f"{first.spec.name}-{target.name}-{first.precision}-h{first.hop_frames}"
    )
    records = []
    with Progress() as progress:
        for request in requests:
            record = export_component(target, request, folder, progress)
            records.append(record)
            if not arguments.json:
                progress.clear()
                sys.stdout.write("\n".join(lines(record, folder)) + "\n")
    if arguments.json:
        sys.stdout.write(json.dumps([asdict(record) for record in records], indent=2) + "\n")
    return 0


def requested(arguments: argparse.Namespace) -> list[ExportRequest]:
    """What the arguments ask for.

    Raises:
        ConfigError: a part of it is not possible.
        ModelError: there is no such model.
    """
    chosen = arguments.component
    components: tuple[Component, ...] = COMPONENTS if chosen == "all" else (chosen,)
    precision = PRECISION_NAMES.get(arguments.precision, arguments.precision)
    try:
        batches = tuple(int(word) for word in arguments.batch.split(","))
    except ValueError as error:
        raise ConfigError(
            f"expected batches as numbers, 1,2,4 for example, got {arguments.batch!r}"
        ) from error
    return [
        ExportRequest.of(
            arguments.model,
            component,
            hop_frames=arguments.hop,
            batches=batches,
            precision=precision,
        )
        for component in components
    ]
