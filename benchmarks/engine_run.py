"""One run of the engine's benchmark: cases in turn, upstream beside them, memory over a stream.

Every figure is on disk as soon as it is there, and what the deadline leaves no time for is named.
"""

from __future__ import annotations

import gc
import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from benchmarks.decoders import measure_decoders
from benchmarks.engine_cases import (
    FRAME_MS,
    Case,
    CaseFigures,
    count_case,
    measure_case,
    measure_stages,
    open_case,
)
from benchmarks.hop_flops import FlopCounter
from benchmarks.measure import (
    Ceilings,
    Deadline,
    Figures,
    device_name,
    exact_f32,
    measure_ceilings,
    memory_readers,
    time_call,
)
from benchmarks.report import here
from benchmarks.stream_memory import stream_memory
from benchmarks.synthetic import CodecName, Size, model_of, spec_of, with_codec
from benchmarks.upstream import UPSTREAM_WINDOW_FRAMES, Upstream, upstream_flops
from engine.denoise.model import TorchModel
from engine.errors import LipwireError
from engine.spec import ModelSpec

logger = logging.getLogger(__name__)

STREAM_HEADROOM = 1.5  # a stream's hops also paste and push: so much longer than the network's


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run measures.

    Attributes:
        size, resolution: see `benchmarks.synthetic.spec_of`.
        stages: cases to be timed by stage, eagerly.
        upstream_steps: of the published way; None: it is not run.
        stream_minutes: of stream whose memory is watched, by the first case of the model's own
            hop length; 0: none.
        rounds, limit_s: hops a case, and the time after which no further one begins.
    """

    size: Size
    resolution: int | None
    device: torch.device
    precision: str
    cases: Sequence[Case]
    stages: Sequence[Case]
    upstream_steps: int | None
    stream_minutes: float
    rounds: int
    limit_s: float


class EngineRun:
    """A plan on its way.

    Attributes:
        figures: what the JSON file holds: ceilings, upstream, hops, stages, decoders, stream,
            failed, skipped.
    """

    def __init__(
        self, plan: Plan, deadline: Deadline, folder: Path, name: str, command: Sequence[str]
    ) -> None:
        self._plan = plan
        self._deadline = deadline
        exact_f32()
        device = plan.device
        self.about = here(command[0], command[1:], f"{device_name(device)}, {plan.precision}")
        self.figures = Figures(folder, name, self.about, device)
        self._specs: dict[CodecName, ModelSpec] = {}
        self._models: dict[CodecName, TorchModel] = {}
        self._counters: dict[CodecName, FlopCounter] = {}

    def run(self) -> dict[str, Any]:
        """Measures all of it; the figures."""
        plan, figures = self._plan, self.figures
        ceilings = measure_ceilings(plan.device)
        figures.put(
            size=plan.size,
            model=self._spec(plan.cases[0].codec).name,
            resolution=self._spec(plan.cases[0].codec).resolution,
            precision=plan.precision,
            batches=sorted({case.batch for case in plan.cases}),
            ceilings=asdict(ceilings),
            failed=[],
        )
        upstream = None
        if plan.upstream_steps is not None and self._deadline.allows("upstream"):
            upstream = self._upstream(plan.upstream_steps, ceilings)
            figures.put(upstream=upstream)
        compiled = [case for case in plan.cases if case.execution.startswith("compiled")]
        self._cases([case for case in plan.cases if case not in compiled], ceilings, upstream)
        self._stages()
        self._decoders(ceilings)
        self._cases(compiled, ceilings, upstream)
        figures.put(skipped=self._deadline.skipped)
        return figures.data

    def _cases(
        self, cases: Sequence[Case], ceilings: Ceilings, upstream: dict[str, Any] | None
    ) -> None:
        streamed = self._streamed() if self._plan.stream_minutes else None
        rows: list[dict[str, object]] = self.figures.data.setdefault("hops", [])
        for case in cases:
            found = self._case(case, ceilings)
            if found is None:
                continue
            row: dict[str, object] = asdict(found)
            if upstream is not None:
                row["times_upstream"] = round(found.frames_s / float(upstream["frames_s"]), 2)
            rows.append(row)
            self.figures.put(skipped=self._deadline.skipped)
            logger.info("%s: %.2f ms a hop", case.label(), found.hop_ms)
            if case is streamed:
                self._stream(case, found)

    def _streamed(self) -> Case:
        cases = self._plan.cases
        own = self._spec(cases[0].codec).hop_frames
        return next((case for case in cases if case.hop == own), cases[0])

    def _spec(self, codec: CodecName) -> ModelSpec:
        if codec not in self._specs:
            self._specs[codec] = spec_of(self._plan.size, self._plan.resolution, codec)
        return self._specs[codec]

    def _model(self, codec: CodecName) -> TorchModel:
        """The model with this codec; the other networks are made once."""
        if codec not in self._models:
            spec = self._spec(codec)
            if self._models:
                other = next(iter(self._models.values()))
                self._models[codec] = with_codec(other, spec)
            else:
                plan = self._plan
                self._models[codec] = model_of(plan.size, spec, plan.device, plan.precision)
        return self._models[codec]

    def _counter(self, codec: CodecName) -> FlopCounter:
        if codec not in self._counters:
            self._counters[codec] = FlopCounter(self._spec(codec))
        return self._counters[codec]

    def _upstream(self, steps: int, ceilings: Ceilings) -> dict[str, Any]:
        plan = self._plan
        codec: CodecName = "tiny" if plan.size == "bundled" else "kl"
        model, spec = self._model(codec), self._spec(codec)
        upstream = Upstream(model, spec, steps)
        window = upstream.random_window()
        timing = time_call(
            lambda: upstream.run_window(*window),
            plan.device,
            rounds=plan.rounds,
            warmup=1,
            limit_s=2 * plan.limit_s,
        )
        flops = upstream_flops(self._counter(codec), spec, steps)
        frames = UPSTREAM_WINDOW_FRAMES
        return {
            "what": f"disjoint windows of {frames} frames, {steps} leading steps, guidance 1.5, "
            f"whole {codec} decoding, two {codec} encodings a frame, eager, sound free of charge",
            "window_ms": round(timing.median_ms, 3),
            "rounds": timing.rounds,
            "frame_ms": round(timing.median_ms / frames, 3),
            "frames_s": round(1e3 * frames / timing.median_ms, 3),
            "sessions_25fps": round(frames * FRAME_MS / timing.median_ms, 3),
            "gflop_frame": round(flops / frames / 1e9, 3),
            "ceiling_share": round(ceilings.share(flops, timing.median_ms, plan.precision), 4),
        }

    def _case(self, case: Case, ceilings: Ceilings) -> CaseFigures | None:
        """The case's figures; None where it did not fit the time or the memory."""
        plan = self._plan
        if not self._deadline.allows(case.label()):
            return None
        flops = count_case(self._counter(case.codec), self._spec(case.codec), case)
        try:
            with time_limit(self._deadline.left_s()):
                return measure_case(
                    self._model(case.codec),
                    self._spec(case.codec),
                    case,
                    flops,
                    ceilings,
                    rounds=plan.rounds,
                    limit_s=plan.limit_s,
                )
        except OutOfTime:
            self._deadline.skipped.append(case.label())
            return None
        except RuntimeError as error:  # no memory, or a compiler that gave up: the others go on
            reason = str(error).strip().partition("\n")[0]
            self.figures.data["failed"].append(f"{case.label()}: {type(error).__name__}: {reason}")
            logger.warning("%s failed", case.label(), exc_info=error)
            return None
        finally:
            gc.collect()
            if plan.device.type == "cuda":
                torch.cuda.empty_cache()

    def _stages(self) -> None:
        plan = self._plan
        rows: list[dict[str, object]] = []
        for case in plan.stages:
            if not self._deadline.allows(f"stages of {case.label()}"):
                continue
            rows.append(
                measure_stages(
                    self._model(case.codec),
                    self._spec(case.codec),
                    case,
                    rounds=plan.rounds,
                    limit_s=plan.limit_s,
                )
            )
            self.figures.put(stages=rows)

    def _decoders(self, ceilings: Ceilings) -> None:
        plan = self._plan
        rows: list[dict[str, object]] = []
        frames = max(case.hop for case in plan.cases)
        for codec in dict.fromkeys(case.codec for case in plan.cases if case.codec != "kl-rows"):
            if self._deadline.allows(f"decoder of {codec}"):
                rows += measure_decoders(
                    self._model(codec),
                    self._spec(codec),
                    ceilings,
                    frames,
                    rounds=plan.rounds,
                    limit_s=plan.limit_s,
                )
                self.figures.put(decoders=rows)

    def _stream(self, case: Case, found: CaseFigures) -> None:
        plan = self._plan
        hops = plan.stream_minutes * 60e3 / FRAME_MS / case.hop
        seconds = STREAM_HEADROOM * hops * found.hop_ms / 1e3
        if not self._deadline.allows(f"{plan.stream_minutes} minutes of stream", seconds):
            return
        backend = open_case(self._model(case.codec), self._spec(case.codec), case)
        memory = stream_memory(
            backend, plan.stream_minutes, case.batch, memory_readers(plan.device)
        )
        self.figures.put(stream=[{**asdict(memory), "case": case.label()}])


class OutOfTime(LipwireError):
    """A case ran into the run's deadline."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises OutOfTime in this, the main thread, once so much time has passed."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTime(f"expected to end within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
