"""Whether the bundled U-Net is worth running in int8 on a CPU: speed, distance, quality.

    python -m benchmarks.int8 --json benchmarks/results/int8.json

NNCF quantises the U-Net's OpenVINO graph after training, weights and activations. It is calibrated
on inputs that the model makes for itself: hops of faces that hear the wrong speech, at the served
timestep, rings carried. conv_in and conv_out, norms, the time embedding and the keys and values of
the audio stay as they are. Then f32, bf16 and int8 say the same takes, in closed loop, and are
scored as `lipwire bench quality` does. Needs `pip install nncf`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from benchmarks.full_size import cpu_name
from benchmarks.quality.material import make_takes
from benchmarks.quality.metrics import psnr_db
from benchmarks.quality.runs import PicturesRunner, own_case, run_case
from benchmarks.quality.scores import Judge, score
from engine.backends.onnx_graphs import GraphBackend, GraphRunner
from engine.backends.openvino_backend import OpenVinoRunner
from engine.checkpoints import resolve_model
from engine.errors import BackendError
from engine.media import F32, U8
from engine.spec import ModelSpec

KEPT = (
    r".*/conv_in/.*",
    r".*/conv_out/.*",
    r".*time_emb.*",
    r".*/audio_film/.*",
    r".*/attn2/to_k/.*",
    r".*/attn2/to_v/.*",
    r".*[Nn]orm.*",
)
# What is left out of int8: nothing else, or one kind of product.
VARIANTS: dict[str, tuple[str, ...]] = {
    "int8": (),
    "int8, convolutions": ("MatMul",),
}
# int8 is worth having if it saves a fifth of bf16's time and is at most twice as far from f32.
MOST_TIME, MOST_ERROR = 0.8, 2.0


class Recording(OpenVinoRunner):
    """Keeps copies of every n-th of the U-Net's inputs."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder, "f32")
        self._every, self._runs = every, 0
        self.inputs: list[dict[str, F32]] = []

    def run(self, graph: str, inputs: Mapping[str, F32]) -> list[F32]:
        if graph == "unet":
            if self._runs % self._every == 0:
                self.inputs.append({name: value.copy() for name, value in inputs.items()})
            self._runs += 1
        return super().run(graph, inputs)


class Quantised(OpenVinoRunner):
    """The graphs in bf16, but for a U-Net that was quantised."""

    def __init__(self, folder: Path, unet: ov.Model) -> None:
        super().__init__(folder, "bf16")
        self._models["unet"] = unet
        self.name = "openvino-int8"


class OneRunner:
    """Opens the bundled model on a given runner (`benchmarks.quality.runs.Opener`)."""

    def __init__(self, spec: ModelSpec, runner: GraphRunner) -> None:
        self.spec = spec
        self._runner = runner

    def open(self, spec: ModelSpec) -> PicturesRunner:
        return PicturesRunner(GraphBackend(spec, self._runner))


def quantised(
    folder: Path, inputs: Sequence[dict[str, F32]], kept_types: Sequence[str]
) -> ov.Model:
    """The U-Net's graph in int8, for the shapes of these inputs.

    Args:
        kept_types: kinds of operations that are not quantised.
    """
    nncf: Any = importlib.import_module("nncf")
    model = ov.Core().read_model(folder / "unet.onnx")
    model.reshape({name: list(value.shape) for name, value in inputs[0].items()})
    scope = nncf.IgnoredScope(patterns=list(KEPT), types=list(kept_types), validate=False)
    quantised_model: ov.Model = nncf.quantize(
        model, nncf.Dataset(list(inputs)), subset_size=len(inputs), ignored_scope=scope
    )
    return quantised_model


def unet_times(
    runners: Mapping[str, OpenVinoRunner], inputs: Mapping[str, F32], rounds: int
) -> dict[str, float]:
    """CPU milliseconds of a hop's U-Net, the median over rounds in which the runners take turns."""
    spent: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds + 2):
        for name, runner in runners.items():
            began = time.process_time()
            runner.run("unet", inputs)
            if turn > 1:
                spent[name].append(1e3 * (time.process_time() - began))
    return {name: round(statistics.median(values), 2) for name, values in spent.items()}


def distance(clips: Sequence[U8], others: Sequence[U8], judge: Judge) -> dict[str, float]:
    """Root mean square of the difference around the lips in levels of 255, and as PSNR."""
    left, top, right, bottom = judge.box
    parts = [
        (clip[:, top:bottom, left:right].astype(np.float64) - other[:, top:bottom, left:right])
        for clip, other in zip(clips, others, strict=True)
    ]
    rms = float(np.sqrt(np.mean([np.mean(part**2) for part in parts])))
    return {"rms_levels": round(rms, 3), "psnr_db": round(psnr_db(clips, others, judge.box), 2)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0: it ran, whatever it found."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.int8",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="example: python -m benchmarks.int8 --frames 100 --rounds 20",
    )
    parser.add_argument("--frames", type=int, default=200, help="of each of two takes (200)")
    parser.add_argument("--rounds", type=int, default=30, help="of timing (30)")
    parser.add_argument("--json", type=Path, help="write the result to a file")
    options = parser.parse_args(arguments)
    folder = resolve_model("bundled")
    spec = ModelSpec.read(folder)
    case = own_case(spec)
    takes = make_takes(spec, options.frames)
    judge = Judge.of(spec, takes)
    recording = Recording(folder, every=3)
    run_case(OneRunner(spec, recording), case, takes, options.frames, wrong_sound=True)
    calibration = recording.inputs
    runners: dict[str, OpenVinoRunner] = {
        "f32": OpenVinoRunner(folder, "f32"),
        "bf16": OpenVinoRunner(folder, "bf16"),
    }
    refused = {}
    shapes = {name: value.shape for name, value in calibration[0].items()}
    for name, kept_types in VARIANTS.items():
        runner = Quantised(folder, quantised(folder, calibration, kept_types))
        try:
            runner.compile("unet", shapes)
            runners[name] = runner
        except BackendError as error:
            refused[name] = " ".join(str(error).split())[-160:]
    clips = {
        name: run_case(OneRunner(spec, runner), case, takes, options.frames).clips
        for name, runner in runners.items()
    }
    times = unet_times(runners, calibration[-1], options.rounds)
    rows: dict[str, dict[str, Any]] = {
        name: {
            "unet_hop_cpu_ms": times[name],
            "of_bf16": round(times[name] / times["bf16"], 3),
            "from_f32": distance(own, clips["f32"], judge),
            "quality": score(judge, own, case.hop),
        }
        for name, own in clips.items()
    }
    bf16_rms = rows["bf16"]["from_f32"]["rms_levels"]
    worth = [
        name
        for name, row in rows.items()
        if name in VARIANTS
        and row["of_bf16"] <= MOST_TIME
        and row["from_f32"]["rms_levels"] <= MOST_ERROR * bf16_rms
    ]
    given = list(sys.argv[1:] if arguments is None else arguments)
    result = {
        "command": " ".join(["python -m benchmarks.int8", *given]),
        "machine": {"cpu": cpu_name(), "threads": 1, "note": "2 shared cores, no GPU, other load"},
        "versions": {
            "openvino": ov.get_version(),
            "nncf": importlib.import_module("nncf").__version__,
        },
        "case": asdict(case),
        "calibration_hops": len(calibration),
        "kept": list(KEPT),
        "rule": {"most_time_of_bf16": MOST_TIME, "most_error_of_bf16s": MOST_ERROR},
        "worth_having": worth,
        "refused_by_openvino": refused,
        "rows": rows,
    }
    text = json.dumps(result, indent=2) + "\n"
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
