"""Whether the bundled model speaks as well in 8-bit floats: quality, errors, sizes.

    python -m benchmarks.f8 --json benchmarks/results/f8.json

The U-Net is exported as `lipwire export --target onnx` does it, in f16 and by several recipes of
f8, and run by onnxruntime: QuantizeLinear and DequantizeLinear as they stand, the products between
them in f32. All say the same takes in closed loop, with faces and voices that neither training nor
calibration had, and are scored as `lipwire bench quality` does. Then a long stream shows drift. On
a CPU nothing can be said of speed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime

from benchmarks.full_size import cpu_name
from benchmarks.int8 import OneRunner, distance
from benchmarks.quality.drift import measure_drift
from benchmarks.quality.material import TAKE_FRAMES, make_takes
from benchmarks.quality.runs import own_case, run_case
from benchmarks.quality.scores import Judge, score
from engine.backends.onnxruntime_backend import ERRORS_ONLY, OnnxRuntimeRunner
from engine.checkpoints import resolve_model
from engine.media import F32
from engine.spec import ModelSpec
from export.component_graph import write_graph
from export.f8.calibration import Calibrated, calibrate
from export.f8.recipe import KINDS, Recipe, layer_kinds
from export.f8.sensitivity import Trial
from export.networks import loaded_network
from export.request import ExportRequest
from export.tolerances import TOLERANCES
from training.sync_network import load_expert

DEFAULT = "f8"
RECIPES: dict[str, Recipe] = {
    DEFAULT: Recipe(),
    "f8, least squares": Recipe(method="mse"),
    "f8, 99.99 % of values": Recipe(method="percentile", percentile=99.99),
    "f8, 99.9 % of values": Recipe(method="percentile", percentile=99.9),
}
ROUNDS = 2  # the takes once again, on other hop borders


@dataclass(frozen=True, slots=True)
class Rule:
    """How much worse than f32 a precision may speak and still be offered.

    Attributes:
        closures, opening: less of the shut lips found, and of the opening's correlation.
        psnr_db: less of the mouth's likeness to the truth.
        seam: more of the change across hop borders, over that without one.
        confidence: less of the sync expert's, as a share; its offset must be the same.
        drift: more loss of sharpness between the first minute and the last.
    """

    closures: float = 0.02
    opening: float = 0.01
    psnr_db: float = 0.1
    seam: float = 0.02
    confidence: float = 0.03
    drift: float = 0.01

    def broken(self, own: Mapping[str, Any], f32: Mapping[str, Any]) -> list[str]:
        """What of a row is worse than the rule allows, beside f32's; empty: it passes."""
        sync, wanted = own["quality"]["sync"], f32["quality"]["sync"]
        expert, expected = own["quality"]["expert"], f32["quality"]["expert"]
        lost = {
            "closures": wanted["closure_recall"] - sync["closure_recall"] - self.closures,
            "opening": wanted["opening_correlation"] - sync["opening_correlation"] - self.opening,
            "psnr": f32["quality"]["mouth_psnr_db"]
            - own["quality"]["mouth_psnr_db"]
            - self.psnr_db,
            "seam": own["quality"]["seam"]["excess"] - f32["quality"]["seam"]["excess"] - self.seam,
            "confidence": (1 - self.confidence) * expected["confidence"] - expert["confidence"],
            "offset": abs(expert["offset_frames"] - expected["offset_frames"]),
        }
        if own["drift"] and f32["drift"]:
            here, there = own["drift"]["sharpness_drift"], f32["drift"]["sharpness_drift"]
            lost["drift"] = abs(here) - abs(there) - self.drift
        return [name for name, over in lost.items() if over > 0]


class ExportedUnet(OnnxRuntimeRunner):
    """The model folder's graphs in f32, but for a U-Net that was exported in f16 or f8."""

    def __init__(self, model_dir: Path, exported: Path, name: str) -> None:
        super().__init__(model_dir)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = ERRORS_ONLY
        self._exported = onnxruntime.InferenceSession(
            str(exported), options, ["CPUExecutionProvider"]
        )
        self._kinds = {item.name: item.type for item in self._exported.get_inputs()}
        self.name = name

    def run(self, graph: str, inputs: Mapping[str, F32]) -> list[F32]:
        if graph != "unet":
            return super().run(graph, inputs)
        given: dict[str, Any] = {
            name: value.astype(np.float16) if "float16" in self._kinds[name] else value
            for name, value in inputs.items()
        }
        context = inputs["valid"].shape[1]  # rings of this runner begin with the oldest frame
        given["places"] = np.arange(context, dtype=np.int64)[None]
        return [value.astype(np.float32) for value in self._exported.run(None, given)]


def exported(request: ExportRequest, folder: Path, calibrated: Calibrated | None) -> Path:
    """The U-Net's graph in f8, or in f16 where nothing is calibrated; its constants are beside."""
    folder.mkdir()
    if calibrated is None:
        return write_graph(replace(request, precision="f16"), folder).path
    return write_graph(replace(request, quantisation=calibrated.quantisation), folder).path


def errors_of(trial: Trial, layers: Sequence[str]) -> dict[str, float]:
    """Relative errors with these layers in 8 bits: of what is seen, and the worst carried."""
    errors = trial.errors(layers)
    seen = errors.pop("out")
    return {"out": round(seen, 5), "carried": round(max(errors.values()), 5)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; 0: the recipe that exports have passes."""
    options = _parser().parse_args(arguments)
    folder = resolve_model("bundled")
    spec = ModelSpec.read(folder)
    case, takes = own_case(spec), make_takes(spec)
    judge = Judge.of(spec, takes, load_expert())
    frames = ROUNDS * TAKE_FRAMES
    request = ExportRequest.of("bundled", "unet", precision="f8")
    network = loaded_network(request)
    kinds = layer_kinds(network.module.get_submodule("unet"), Recipe())
    rows: dict[str, dict[str, Any]] = {}
    sensitivity: dict[str, Any] = {}
    with TemporaryDirectory() as scratch:
        runners: dict[str, OnnxRuntimeRunner] = {"f32": OnnxRuntimeRunner(folder)}
        path = exported(request, Path(scratch) / "f16", None)
        runners["f16"] = ExportedUnet(folder, path, "f16")
        sizes = {"f16": _megabytes(path)}
        errors: dict[str, dict[str, float]] = {}
        for name, recipe in RECIPES.items():
            found = calibrate(request, recipe)
            trial = Trial(network, found)
            errors[name] = errors_of(trial, list(found.quantisation.ranges))
            path = exported(request, Path(scratch) / str(len(runners)), found)
            runners[name] = ExportedUnet(folder, path, name)
            sizes[name] = _megabytes(path)
            if name == DEFAULT:
                by_layer = {layer: errors_of(trial, [layer]) for layer in kinds}
                dearest = sorted(by_layer, key=lambda layer: -by_layer[layer]["out"])[:20]
                sensitivity = {
                    "by_kind": {
                        kind: errors_of(trial, [layer for layer in kinds if kinds[layer] == kind])
                        for kind in KINDS
                    },
                    "dearest_layers": {layer: by_layer[layer] for layer in dearest},
                }
        reference: list[Any] = []
        for name, runner in runners.items():
            opener = OneRunner(spec, runner)
            clips = run_case(opener, case, takes, frames).clips
            reference = reference or clips
            drift = None
            if options.drift_seconds and name in ("f32", DEFAULT):
                drift = measure_drift(opener, case, judge, options.drift_seconds).to_dict()
            rows[name] = {
                "unet_mb": sizes.get(name),
                "errors": errors.get(name),
                "from_f32": distance(clips, reference, judge),
                "quality": score(judge, clips, case.hop, TAKE_FRAMES),
                "drift": drift,
            }
            rows[name]["worse_than_allowed"] = Rule().broken(rows[name], rows["f32"])
            sys.stderr.write(f"{name}: {json.dumps(rows[name])}\n")
    given = list(sys.argv[1:] if arguments is None else arguments)
    result = {
        "command": " ".join(["python -m benchmarks.f8", *given]),
        "machine": {"cpu": cpu_name(), "note": "2 shared cores, no GPU, beside other load"},
        "versions": {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__},
        "case": asdict(case),
        "frames": len(takes) * frames,
        "drift_seconds": options.drift_seconds,
        "recipes": {name: asdict(recipe) for name, recipe in RECIPES.items()},
        "layers": len(kinds),
        "rule": asdict(Rule()),
        "tolerance": TOLERANCES["f8"],
        "sensitivity": sensitivity,
        "rows": rows,
    }
    text = json.dumps(result, indent=1) + "\n"
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 1 if rows[DEFAULT]["worse_than_allowed"] else 0


def _megabytes(graph: Path) -> float:
    """Of a graph and its constants."""
    sizes = (path.stat().st_size for path in (graph, graph.with_suffix(".safetensors")))
    return round(sum(sizes) / 1e6, 2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.f8",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="example: python -m benchmarks.f8 --drift-seconds 0",
    )
    parser.add_argument(
        "--drift-seconds", type=float, default=120.0, help="of a long stream, 0: none (120)"
    )
    parser.add_argument("--json", type=Path, help="write the result to a file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
