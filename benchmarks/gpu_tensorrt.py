"""Entry 4 of the GPU runs: TensorRT's plans of a whole model, beside torch and AOTInductor.

    python -m benchmarks.gpu_tensorrt --out out          # on a GPU: under ten minutes
    python -m benchmarks.gpu_tensorrt --out out --size tiny --batches 1 2 --runtimes torch

Plans of each package that is there, in each precision, are built through the plan cache, loaded
from it, held against their golden outputs and served by the real backend: hops at each batch,
memory, seconds to build and to load. What a package refuses stands in the table in its own words.
Beside them, on the same weights, torch's captured and compiled hops, and AOTInductor's packages.

Every case runs in a process of its own, which is ended when its time is up: a compiler that
searches for long, or a runtime that takes its process with it, costs that case alone.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np

from benchmarks.engine_cases import MODES
from benchmarks.gpu_command import begin, common_parser
from benchmarks.hop_figures import Setting, levels_apart
from benchmarks.measure import Deadline, Figures, device_name, pick_device
from benchmarks.plan_figures import Device, measure_plans
from benchmarks.report import here, write_report
from benchmarks.synthetic import spec_of, way_of
from benchmarks.tensorrt_tables import REFERENCE, page, summary
from benchmarks.torch_figures import measure_aoti, measure_torch
from engine.checkpoints import resolve_model
from engine.spec import ModelSpec

logger = logging.getLogger(__name__)

Runtime = Literal["tensorrt_rtx", "tensorrt", "torch", "torch-compiled", "aoti"]
Precision = Literal["f32", "f16", "bf16", "f8"]

BATCHES = (1, 2, 4, 8, 16)
RESERVE_S = 45.0  # left to each case that is still to come


@dataclass(frozen=True, slots=True)
class Case:
    """A runtime in a precision."""

    runtime: Runtime
    precision: Precision

    def __str__(self) -> str:
        return f"{self.runtime}:{self.precision}"

    @classmethod
    def of(cls, text: str) -> Case:
        """The case that `str` gives this text of."""
        runtime, _, precision = text.partition(":")
        return cls(cast(Runtime, runtime), cast(Precision, precision))


def cases(runtimes: Sequence[Runtime], precisions: Sequence[Precision]) -> list[Case]:
    """What is run, the most wanted first; torch and AOTInductor have no f8."""
    plans = [name for name in runtimes if name.startswith("tensorrt")]
    others = [name for name in runtimes if name not in plans]
    first, *more = precisions
    return [
        *(Case(name, first) for name in plans),
        *(Case(name, first) for name in others if first != "f8"),
        *(Case(name, precision) for precision in more for name in plans),
    ]


def main(
    arguments: Sequence[str] | None = None,
    run: Callable[[argparse.Namespace, Case, float], dict[str, Any]] | None = None,
) -> int:
    """Measures, writes gpu_tensorrt.json and its page, prints tables; the exit status.

    Args:
        run: gives a case's figures within so many seconds; None: in a process of its own.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    device, deadline = begin(options)
    if options.case:
        measured(options, Case.of(options.case), Device(), options.figures)
        return 0
    about = here("python -m benchmarks.gpu_tensorrt", given, device_name(device))
    with tempfile.TemporaryDirectory(prefix="lipwire-tensorrt-") as work:
        options.work = options.work or Path(work)
        spec = model_in(options)
        figures = Figures(
            options.out,
            "gpu_tensorrt",
            about,
            device,
            model=spec.name,
            resolution=spec.resolution,
            mode=spec.carry,
            steps=len(spec.timesteps),
            codec=spec.codec.kind,
            batches=options.batches,
            cases=[],
        )
        _run_cases(options, figures, deadline, run or _in_a_process)
    write_report(options.out, "gpu_tensorrt", figures.data, page(figures.data, about))
    sys.stdout.write(summary(figures.data))
    return 0


def _run_cases(
    options: argparse.Namespace,
    figures: Figures,
    deadline: Deadline,
    run: Callable[[argparse.Namespace, Case, float], dict[str, Any]],
) -> None:
    """Runs every case that there is time for, and holds their pictures against torch's."""
    waiting = cases(options.runtimes, options.precisions)
    done: dict[Case, dict[str, Any]] = {}
    while waiting:
        case, *waiting = waiting
        seconds = deadline.left_s() - RESERVE_S * len(waiting)
        if not deadline.allows(str(case), RESERVE_S):
            continue
        logger.info("%s: at most %.0f s", case, seconds)
        done[case] = {"case": str(case), **asdict(case), **run(options, case, seconds)}
        for row in done.values():
            row.update(_beside_torch(options, row["case"], done))
        figures.put(cases=list(done.values()), skipped=deadline.skipped)
    figures.put(skipped=deadline.skipped)


def _beside_torch(
    options: argparse.Namespace, case: str, done: dict[Case, dict[str, Any]]
) -> dict[str, Any]:
    """How far a case's pictures are from torch's, where both are there."""
    reference = next((str(other) for other in done if other.runtime == REFERENCE), None)
    if reference is None or case == reference:
        return {}
    ours, theirs = (probe_path(options.work, name) for name in (case, reference))
    if not (ours.exists() and theirs.exists()):
        return {}
    return {"beside_torch": levels_apart(np.load(ours), np.load(theirs))}


def measured(options: argparse.Namespace, case: Case, device: Device, path: Path) -> None:
    """Measures one case into a JSON file, written anew with every figure."""
    figures: dict[str, Any] = {}

    def note(**more: Any) -> None:
        if (probe := more.pop("probe", None)) is not None:
            np.save(probe_path(options.work, str(case)), probe)
        figures.update(more)
        path.write_text(json.dumps(figures), encoding="utf-8")

    note()
    setting = Setting(
        model_folder(options),
        model_in(options),
        tuple(options.batches),
        options.plans or options.work / "plans",
        options.rounds,
        options.limit_s,
    )
    where = pick_device(options.device)
    try:
        match case.runtime:
            case "torch" | "torch-compiled":
                compiled = case.runtime == "torch-compiled"
                measure_torch(setting, case.precision, where, compiled=compiled, note=note)
            case "aoti":
                measure_aoti(setting, case.precision, where, note)
            case _:
                measure_plans(case.runtime, case.precision, setting, device, note)
    except Exception as error:
        logger.warning("%s", case, exc_info=error)
        note(refusal=str(error).strip() or type(error).__name__)


def model_folder(options: argparse.Namespace) -> Path:
    """Where the weights lie."""
    folder: Path = options.work / "model"
    return resolve_model("bundled") if options.size == "bundled" else folder


def model_in(options: argparse.Namespace) -> ModelSpec:
    """How the model is run: the bundled one as it is, else as the flags say.

    A synthetic model's weights are written where they are not there yet.
    """
    folder = model_folder(options)
    if options.size == "bundled":
        return ModelSpec.read(folder)
    if not (folder / "model.json").exists():
        from benchmarks.export_size import write_synthetic_model

        folder.mkdir(parents=True, exist_ok=True)
        spec = spec_of(options.size, options.resolution, options.codec)
        for component in ("unet", "audio", "decoder"):
            write_synthetic_model(folder, spec, component)
    spec = ModelSpec.read(folder)
    return way_of(spec, mode=options.mode, steps=options.steps, hop=options.hop)


def probe_path(work: Path, case: str) -> Path:
    """Where a case leaves the pictures by which it is compared."""
    return work / f"probe-{case.replace(':', '-')}.npy"


def _in_a_process(options: argparse.Namespace, case: Case, seconds: float) -> dict[str, Any]:
    path = options.work / f"{str(case).replace(':', '-')}.json"
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.gpu_tensorrt", "--out", str(options.out)]
    command += ["--case", str(case), "--figures", str(path), "--work", str(options.work)]
    command += ["--size", options.size, "--device", options.device, "--mode", options.mode]
    command += ["--steps", str(options.steps), "--hop", str(options.hop)]
    command += ["--rounds", str(options.rounds), "--limit-s", str(options.limit_s)]
    command += ["--threads", str(options.threads), "--batches", *map(str, options.batches)]
    command += ["--plans", str(options.plans)] if options.plans else []
    why = ""
    try:
        status = subprocess.run(command, timeout=max(seconds, 1.0), check=False).returncode
        if status:
            why = f"its process ended with status {status}"
    except subprocess.TimeoutExpired:
        why = f"ended after {seconds:.0f} s, when its time was up"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {**found, "refusal": why} if why else found


def _parser() -> argparse.ArgumentParser:
    parser = common_parser(
        "gpu_tensorrt",
        "TensorRT's plans of a whole model, beside torch and AOTInductor.",
        "--out out --size tiny --batches 1 2 --runtimes torch --precisions f32",
        codec="picture codec (kl; the bundled model's own)",
    )
    add = parser.add_argument
    add("--runtimes", nargs="+", choices=get_args(Runtime), default=list(get_args(Runtime)))
    add("--precisions", nargs="+", choices=get_args(Precision), default=["f16", "f8"])
    add("--batches", nargs="+", type=int, default=list(BATCHES), help="sessions a call")
    add("--mode", choices=MODES, default="carry", help="how earlier frames are seen (carry)")
    add("--steps", type=int, default=2, help="denoising steps (2)")
    add("--hop", type=int, default=4, help="new frames a call (4)")
    add("--rounds", type=int, default=50, help="timed hops a batch (50)")
    add("--limit-s", type=float, default=3.0, help="seconds of timed hops a batch, about (3)")
    add("--plans", type=Path, help="folder of the plan cache, to be kept")
    add("--work", type=Path, help="folder of the synthetic model, to be kept: 4 GB")
    add("--case", help=argparse.SUPPRESS)
    add("--figures", type=Path, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
