"""What kept graphs save at a start, of the network alone and of the whole server.

    python -m benchmarks.plan_start --json benchmarks/results/plan_start.json

Every start is a process of its own. Of the network: one opens the OpenVINO backend, makes it ready
for its hop and generates one, with graphs compiled, compiled and kept, or loaded; imports and the
interpreter are left out, because they are the same in all. Of the server
(`benchmarks.server_starts`): with kept plans, waiting for them, and serving on another backend
while they are built. CPU time counts, since other work on the machine does not change it much.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import here
from benchmarks.server_starts import Kind, Moment, ServerStart, measure_starts
from engine.backends import openvino_backend
from engine.backends.base import HopInput
from engine.backends.inputs import latents_shape
from engine.checkpoints import resolve_model
from engine.plans.cache import PlanCache


@dataclass(frozen=True, slots=True)
class Start:
    """One start.

    Attributes:
        cpu_s: of all threads, from nothing to a backend that is ready for a hop.
        wall_s: the same by the clock.
        crops_sha256: of the first hop's pictures.
    """

    cpu_s: float
    wall_s: float
    crops_sha256: str


def start(model: str, precision: str | None, plans: PlanCache | None) -> Start:
    """Starts a backend in this process and generates one hop."""
    cpu, wall = time.process_time(), time.perf_counter()
    backend = openvino_backend.open_model(resolve_model(model), precision, plans=plans)
    spec = backend.spec
    backend.warm_up(spec.hop_frames)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    noise = np.random.default_rng(0)
    hop, shape = spec.hop_frames, latents_shape(spec)
    item = HopInput(
        backend.new_session(hop_frames=hop, seed=0),
        noise.random((hop, spec.audio.n_mels, spec.audio.mel_frames), np.float32),
        noise.standard_normal((hop, *shape), np.float32),
        noise.standard_normal((hop, *shape), np.float32),
    )
    crops = backend.run_hop([item])[0].crops
    return Start(cpu, wall, hashlib.sha256(crops.tobytes()).hexdigest())


def _in_a_process(model: str, precision: str | None, plans: Path | None) -> Start:
    command = [sys.executable, "-m", "benchmarks.plan_start", "--model", model]
    command += ["--one", *(["--precision", precision] if precision else [])]
    if plans is not None:
        command += ["--plans-dir", str(plans)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Start(**json.loads(done.stdout))


def measure(model: str, precision: str | None, repeats: int) -> dict[str, list[Start]]:
    """Starts by kind: "compiled", "compiled and kept", "loaded"; taken in turn."""
    starts: dict[str, list[Start]] = {"compiled": [], "compiled and kept": [], "loaded": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            starts["compiled"].append(_in_a_process(model, precision, None))
            starts["compiled and kept"].append(_in_a_process(model, precision, Path(folder)))
            starts["loaded"].append(_in_a_process(model, precision, Path(folder)))
    return starts


def server_lines(servers: Mapping[Kind, Sequence[ServerStart]]) -> list[str]:
    """The table of the server's starts: medians, from the start on."""
    lines = ["lipwire serve: CPU s | wall s (medians)"]
    for kind, starts in servers.items():
        moments: dict[str, list[Moment | None]] = {
            f"ready on {starts[0].backend}": [start.ready for start in starts],
            f"{starts[0].backend_after} takes over": [start.switched for start in starts],
            "the call has moved": [start.moved for start in starts],
        }
        for what, found in moments.items():
            there = [moment for moment in found if moment is not None]
            if there:
                cpu = statistics.median(moment.cpu_s for moment in there)
                wall = statistics.median(moment.wall_s for moment in there)
                lines.append(f"{kind:10} {what:34} {cpu:6.2f} | {wall:6.2f}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, and prints a table; the exit status: 1 where the pictures differ."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plan_start",
        description="Start the OpenVINO backend with and without kept graphs.",
        epilog="example: python -m benchmarks.plan_start --repeats 3",
    )
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--precision", choices=["f32", "bf16"], help="the CPU's own")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--server-repeats", type=int, default=3, help="0: the network alone")
    parser.add_argument("--port", type=int, default=8090, help="of the servers")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--one", action="store_true", help="one start, in this process, as JSON")
    parser.add_argument("--plans-dir", type=Path, help="with --one: where graphs are kept")
    given = parser.parse_args(arguments)
    if given.one:
        plans = PlanCache(given.plans_dir) if given.plans_dir else None
        sys.stdout.write(json.dumps(asdict(start(given.model, given.precision, plans))))
        return 0
    starts = measure(given.model, given.precision, given.repeats)
    same = len({item.crops_sha256 for kind in starts.values() for item in kind}) == 1
    lines = [f"{given.model}, {given.precision or 'native'}: CPU s | wall s (medians)"]
    for kind, items in starts.items():
        cpu = statistics.median(item.cpu_s for item in items)
        wall = statistics.median(item.wall_s for item in items)
        lines.append(f"{kind:18} {cpu:6.2f} | {wall:6.2f}")
    lines.append("the pictures are the same, bit for bit" if same else "THE PICTURES DIFFER")
    servers: dict[Kind, list[ServerStart]] = {}
    if given.server_repeats:
        servers = asyncio.run(measure_starts(given.model, given.server_repeats, given.port))
        lines += server_lines(servers)
    sys.stdout.write("\n".join(lines) + "\n")
    if given.json is not None:
        report = {
            "model": given.model,
            "precision": given.precision,
            "same_pictures": same,
            **asdict(here("python -m benchmarks.plan_start", arguments or sys.argv[1:])),
            "starts": {kind: [asdict(item) for item in items] for kind, items in starts.items()},
            "server": {kind: [asdict(item) for item in items] for kind, items in servers.items()},
        }
        given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
