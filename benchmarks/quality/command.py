"""`lipwire bench quality`: runs the cases, scores them, writes JSON and a page."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args

from benchmarks.quality.drift import measure_drift
from benchmarks.quality.material import make_takes, shortened
from benchmarks.quality.page import report_of
from benchmarks.quality.plan import COSTLY_PASSES, Choice, passes, plan, round_frames, usual_hop
from benchmarks.quality.runs import (
    Case,
    FolderOpener,
    Opener,
    Run,
    own_case,
    run_case,
    upstream_case,
)
from benchmarks.quality.scores import Judge, distance, score
from benchmarks.report import here, write_report
from engine.checkpoints import resolve_model
from engine.errors import BackendError, ConfigError
from engine.spec import CarryMode, ModelSpec, ReferenceMode, StartMode
from training.sync_clips import Expert

MANY_STEPS: Final = 20  # whose result the fewer steps are held against

EXAMPLES = """examples:
  lipwire bench quality --out report
  lipwire bench quality --modes causal disjoint --hops 4 16 --steps 1 --drift-seconds 0 --out report
  lipwire bench quality --model latentsync-1.5 --against upstream --out report
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes `quality.json` and `quality.html`; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    import cv2

    from training.sync_network import WEIGHTS, load_expert, read_accuracy

    experts = options.sync_expert or WEIGHTS
    cv2.setNumThreads(1)
    folder = resolve_model(options.model)
    opener: Opener
    if options.backend == "torch":
        import torch

        from benchmarks.quality.torch_runs import TorchOpener

        if options.threads:
            torch.set_num_threads(options.threads)
        opener = TorchOpener(folder, options.device)
    else:
        opener = FolderOpener(folder, options.backend)
    choice = Choice(
        options.modes,
        options.hops,
        options.steps,
        options.starts,
        options.references,
        options.refresh,
    )
    result = measure(
        opener,
        choice,
        seconds=options.seconds,
        short_seconds=options.short_seconds,
        drift_seconds=options.drift_seconds,
        drift_opener=(
            FolderOpener(folder, options.drift_backend) if options.drift_backend else opener
        ),
        against_upstream=options.against == "upstream",
        expert=load_expert(experts),
    )
    about = here("lipwire bench quality", given)
    accuracy = read_accuracy(experts)
    result = {"circumstances": about.to_dict(), **result, "expert_accuracy": accuracy}
    for path in write_report(options.out, "quality", result, report_of(result, about)):
        _say(str(path))
    return 0


def measure(
    opener: Opener,
    choice: Choice,
    *,
    seconds: float,
    short_seconds: float,
    drift_seconds: float = 0.0,
    drift_opener: Opener | None = None,
    against_upstream: bool = False,
    expert: Expert | None = None,
) -> dict[str, Any]:
    """Everything, ready for JSON; ways that the backend cannot run are listed as refused.

    Args:
        seconds, short_seconds: of a round, for cheap and for costly cases.
        drift_seconds: of the long stream; 0 for none. `drift_opener` runs it where it is
            another backend's.
        expert: on sync; None: its figures are left out.
    """
    spec = opener.spec
    takes = make_takes(spec)
    whole = Judge.of(spec, takes, expert)
    judges = {
        costly: whole.over(
            [shortened(take, min(round_frames(length), take.frames)) for take in takes]
        )
        for costly, length in ((False, seconds), (True, short_seconds))
    }
    bench = _Bench(opener, judges)
    rows: list[dict[str, Any]] = []
    own = own_case(spec)
    upstream = upstream_case(spec) if against_upstream else None
    cases = plan(spec, choice)
    references: dict[tuple[CarryMode, int], Run] = {}
    published: Run | None = None
    # The runs that others are held against come first.
    ordered = sorted(cases, key=lambda case: case.steps != MANY_STEPS)
    for case in [*([upstream] if upstream else []), *ordered]:
        run = bench.add(case)
        if run is None:
            continue
        row = bench.rows[-1]
        if case == upstream:
            published = run
        elif published is not None:
            row["to_upstream"] = distance(whole, run, published, bench.common)
        if case.steps == MANY_STEPS and not case.published and case.start == "noise":
            references[case.mode, case.refresh_hops] = run
        many = references.get((case.mode, case.refresh_hops))
        if many is not None and many is not run and case.hop == usual_hop(spec, case.mode):
            row["to_many_steps"] = distance(whole, run, many, bench.common)
    rows = bench.rows
    result: dict[str, Any] = {
        "model": _described(spec),
        "backend": opener.open(own.apply(spec)).name,
        "frames_a_round": {
            "usual": judges[False].takes[0].frames,
            "costly": judges[True].takes[0].frames,
        },
        "takes": len(takes),
        "floors": floors(opener, whole, own),
        "rows": rows,
        "refused": bench.refused,
        "drift": None,
    }
    if drift_seconds:
        runs = drift_opener or opener
        drift = measure_drift(runs, own, judges[False], drift_seconds)
        result["drift"] = {
            "backend": runs.open(own.apply(spec)).name,
            "way": own.way,
            "hop": own.hop,
            "steps": own.steps,
            **drift.to_dict(),
        }
    return result


def floors(opener: Opener, judge: Judge, own: Case) -> dict[str, Any]:
    """The model's own way over the whole takes, and what that is worth: beside the truth itself
    stand no model at all and the model hearing the other take.
    """
    hop = max(own.hop, 2)
    frames = judge.takes[0].frames // own.hop * own.hop
    right, wrong = (
        run_case(opener, own, judge.takes, frames, wrong_sound=astray) for astray in (False, True)
    )
    return {
        "truth": score(judge, judge.truths(frames), hop),
        "model": score(judge, right.clips, hop),
        "wrong_sound": score(judge, wrong.clips, hop),
        "source": score(judge, [take.source[:frames] for take in judge.takes], hop),
    }


class _Bench:
    """Runs and scores cases one by one, and remembers those that were refused."""

    def __init__(self, opener: Opener, judges: dict[bool, Judge]) -> None:
        self._opener, self._judges = opener, judges
        window = opener.spec.window_frames
        # What every case has, whatever its hop: whole windows of the shortest round.
        self.common = judges[True].takes[0].frames // window * window
        self.rows: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []

    def add(self, case: Case) -> Run | None:
        """The case's run, its row appended; None where it cannot be run."""
        spec = self._opener.spec
        costly = passes(case, spec.window_frames) > COSTLY_PASSES
        judge = self._judges[costly]
        period = judge.takes[0].frames
        paired = case.published or case.steps == len(spec.timesteps)
        rounds = 2 if case.hop > 1 and paired else 1
        try:
            run = run_case(self._opener, case, judge.takes, rounds * period)
        except (BackendError, ConfigError) as error:
            self.refused.append({**_named(case), "why": str(error)})
            _say(f"{case.way:24} hop {case.hop:2} steps {case.steps:2}  refused: {error}")
            return None
        twice = period if rounds == 2 else None
        row = {
            **_named(case),
            "rounds": rounds,
            "frame_ms": round(run.frame_ms, 2),
            **score(judge, run.clips, case.hop, twice),
            "beginning": self._beginning(run),
        }
        self.rows.append(row)
        seams = row["seam"]
        _say(
            f"{case.way:24} hop {case.hop:2} steps {case.steps:2}"
            f"  seam {'-' if seams is None else seams['excess']:<7}"
            f" line {row['hop_line_db']!s:8} opening {row['sync']['opening_correlation']:.3f}"
            f" {row['mouth_psnr_db']:.2f} dB  {run.frame_ms:.1f} ms a frame"
        )
        return run

    def _beginning(self, run: Run) -> dict[str, Any]:
        """The figures over the common frames: those that compare modes and step counts."""
        figures = score(self._judges[True], [clip[: self.common] for clip in run.clips], 2)
        kept = ("frames", "mouth_psnr_db", "sharpness_ratio", "change_ratio")
        synced = ("opening_correlation", "opening_ratio", "error")
        return {
            **{name: figures[name] for name in kept},
            **{name: figures["sync"][name] for name in synced},
        }


def _named(case: Case) -> dict[str, Any]:
    return {"way": case.way, **dataclasses.asdict(case), "steps": case.steps}


def _described(spec: ModelSpec) -> dict[str, Any]:
    own = own_case(spec)
    return {
        "name": spec.name,
        "window_frames": spec.window_frames,
        "own_way": own.way,
        "own_hop": own.hop,
        "trained_timesteps": list(spec.timesteps),
        "resolution": spec.resolution,
        "per_frame_norm": spec.unet.per_frame_norm,
    }


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lipwire bench quality",
        description="Measure seams, sync, drift and distance by window mode, hop and steps.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default="bundled", help="name or folder (bundled)")
    parser.add_argument(
        "--backend",
        choices=("torch", "openvino", "onnxruntime", "auto"),
        default="torch",
        help="torch runs every mode, the others the model's own (torch)",
    )
    parser.add_argument("--device", help="of torch (cuda where there is one, else cpu)")
    parser.add_argument("--threads", type=int, default=1, help="of torch on a CPU, 0: all (1)")
    parser.add_argument(
        "--modes", nargs="+", choices=get_args(CarryMode), default=list(get_args(CarryMode))
    )
    parser.add_argument("--hops", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 2, 4, 8, MANY_STEPS])
    parser.add_argument("--starts", nargs="+", choices=get_args(StartMode), default=["noise"])
    parser.add_argument(
        "--references", nargs="+", choices=get_args(ReferenceMode), default=["frame", "session"]
    )
    parser.add_argument(
        "--refresh", nargs="+", type=int, default=[0, 8], help="hops, in carry; 0: never (0 8)"
    )
    parser.add_argument(
        "--seconds", type=float, default=9.0, help="of a round, at most 13 (9); seams need two"
    )
    parser.add_argument(
        "--short-seconds", type=float, default=5.3, help="of a round where it costs more (5.3)"
    )
    parser.add_argument(
        "--against", choices=("upstream",), help="run the published way too, in the same run"
    )
    parser.add_argument(
        "--drift-seconds", type=float, default=600.0, help="of the long stream, 0: none (600)"
    )
    parser.add_argument(
        "--drift-backend",
        choices=("openvino", "onnxruntime", "torch"),
        help="of the long stream, where another is faster (as --backend)",
    )
    parser.add_argument("--sync-expert", type=Path, help="folder of another sync expert (ours)")
    parser.add_argument("--out", type=Path, required=True, help="folder for JSON and page")
    return parser
