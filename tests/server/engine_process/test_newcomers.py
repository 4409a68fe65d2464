"""Calls that come shortly after each other, on a turned clock: nobody's hops wait for long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from server.engine_link.messages import EngineSettings, OpenSession
from server.engine_process import hop_length, streams
from server.engine_process.hop_length import HopLength
from server.engine_process.streams import StreamsCore
from tests.server_fakes import make_avatar

COSTS_MS = {1: 15.0, 2: 20.0, 4: 30.0}  # of one hop; two cores of an EPYC
CONNECTING = 1.25  # by which a hop is slower while calls connect on the same cores
APART_MS = 300.0  # between two calls
PACKET_MS, PACKET_SAMPLES = 20.0, 320


class Engine:
    """An engine whose hops take what they are said to.

    Attributes:
        now_ms: the clock.
        waited_ms: from the end of each hop's last frame until the hop was done.
        late_hops: dropped whole.
    """

    def __init__(self, core: StreamsCore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = 0.0
        self.late_hops = 0
        for module in (streams, hop_length):
            monkeypatch.setattr(module.time, "monotonic", lambda: self.now_ms / 1000)
        self.core = core
        core._hop_length = HopLength(COSTS_MS, lambda: self.now_ms / 1000)
        self.waited_ms: list[float] = []
        self._sent: dict[str, int] = {}
        self._began: dict[str, float] = {}
        self._noise = np.random.default_rng(0)
        run_due = core._scheduler.run_due

        def run_in_time(ahead: int) -> object:
            """Computes a hop, and lets as much time pass as it takes."""
            outputs = run_due(ahead)
            if outputs and outputs[0].batch:
                self.now_ms += CONNECTING * COSTS_MS[outputs[0].stream.hop_frames]
            return outputs

        monkeypatch.setattr(core._scheduler, "run_due", run_in_time)

    def call(self) -> None:
        name = str(len(self._began))
        self.core.open(OpenSession(name, "avatar", "ada", "", 0, 0, 0, 0, 0, seed=0))
        self._began[name], self._sent[name] = self.now_ms, 0

    def run_until(self, end_ms: float) -> None:
        while self.now_ms < end_ms:
            for name in self._began:
                while self._arrival_ms(name) <= self.now_ms:
                    self._push(name)
            results = self.core.step()
            if not results:
                self.now_ms = min(self._arrival_ms(name) for name in self._began)
            for result in results:
                self.late_hops += result.late_hops
                end = result.frames[-1].index + 1
                self.waited_ms.append(self.now_ms - self._began[result.session] - 40.0 * end)

    def _arrival_ms(self, name: str) -> float:
        return self._began[name] + (self._sent[name] + 1) * PACKET_MS

    def _push(self, name: str) -> None:
        samples = self._noise.standard_normal(PACKET_SAMPLES).astype(np.float32) * 0.1
        self.core.push_audio(name, samples, 0)
        self._sent[name] += 1


@pytest.fixture
def core(tmp_path: Path, tiny_onnx_model: Path) -> StreamsCore:
    make_avatar(tmp_path, frames=25)
    settings = EngineSettings("", str(tiny_onnx_model), "onnxruntime", None, (tmp_path,))
    core = StreamsCore(settings)
    core.describe()
    return core


def _longest_wait_ms(core: StreamsCore, monkeypatch: pytest.MonkeyPatch) -> float:
    """Of the hops of four calls that begin within a second."""
    engine = Engine(core, monkeypatch)
    for number in range(4):
        engine.call()
        engine.run_until((number + 1) * APART_MS)
    engine.run_until(3000.0)
    assert engine.late_hops == 0
    assert {session.stream.hop_frames for session in core._sessions.values()} == {4}
    return max(engine.waited_ms)


def test_calls_that_begin_within_a_second_do_not_hold_each_other_up(
    core: StreamsCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _longest_wait_ms(core, monkeypatch) < 240  # 140 alone


def test_they_would_if_each_waited_for_a_pause_to_lengthen_its_hops(
    core: StreamsCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "_somebody_waits", lambda: False)
    assert _longest_wait_ms(core, monkeypatch) > 270
