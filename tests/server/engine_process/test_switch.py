"""An engine serves on onnxruntime while OpenVINO's plan is built; calls do not see the switch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from engine.backends import openvino_backend
from engine.media import FRAME_SAMPLES, U8
from engine.plans.cache import PlanCache
from server.config import STREAMS_CORE
from server.engine_link.messages import EngineSettings, OpenSession
from server.engine_link.plan_counts import PlanCounts
from server.engine_process import streams
from server.engine_process.streams import StreamsCore
from tests.fakes import speech
from tests.server_fakes import engine_settings, make_avatar

HOP = 4
CALLS = ("a", "b", "c")
TIMEOUT_S = 60.0


class BuiltHere:
    """Builds in this process, when it is waited for."""

    def __init__(self, model: Path, plans: PlanCache) -> None:
        self._model, self._plans = model, plans

    def wait(self) -> PlanCounts:
        openvino_backend.open_model(self._model, "f32", plans=self._plans).warm_up(HOP)
        return PlanCounts(built=5, build_s=1.0)

    def cancel(self) -> None:
        """Too short to be cancelled."""


@pytest.fixture
def settings(tmp_path: Path, tiny_onnx_model: Path) -> EngineSettings:
    make_avatar(tmp_path / "avatars", frames=25)
    settings = engine_settings(avatars=(tmp_path / "avatars",))
    return dataclasses.replace(
        settings,
        core=STREAMS_CORE,
        model=str(tiny_onnx_model),
        backend="auto",
        hop_frames=HOP,
        run=dataclasses.replace(settings.run, precision="f32"),
        plans=PlanCache(tmp_path / "plans"),
        longest_build_s=0.0,
    )


def shown(core: StreamsCore, switch_at: int | None) -> dict[str, list[U8]]:
    """What three calls show that begin one after the other; the engine may switch at a turn."""
    frames: dict[str, list[U8]] = {name: [] for name in CALLS}
    sound = speech(60, seed=3)
    here: list[str] = []
    positions = dict.fromkeys(CALLS, 0)
    for turn in range(24):
        if turn % 2 == 0 and len(here) < len(CALLS):
            here.append(CALLS[len(here)])
            core.open(OpenSession(here[-1], "avatar", "ada", "", 0, 0, 0, 0, 0, seed=len(here)))
        if turn == switch_at:
            core.changed()
            core._serving.wait(TIMEOUT_S)
            ready = core.changed()
            assert ready is not None and ready.backend == "openvino-f32"
        for name in here:
            start = positions[name]
            positions[name] = start + 2 * FRAME_SAMPLES
            core.push_audio(name, sound[start : positions[name]], 0)
        while results := core.step():
            for result in results:
                assert result.error is None
                frames[result.session] += [frame.picture.i420 for frame in result.frames]
    return frames


def test_calls_do_not_see_the_switch_and_everybody_is_told(
    settings: EngineSettings, tiny_onnx_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.plans is not None
    plans = settings.plans
    monkeypatch.setattr(
        streams, "PlanBuilder", lambda command, timeout_s: BuiltHere(tiny_onnx_model, plans)
    )
    core = StreamsCore(settings)
    ready = core.describe()
    assert ready.backend == "onnxruntime-f32" and ready.choice is not None
    assert ready.choice.why == "the plan for openvino is being built, which takes over then"
    switched = shown(core, switch_at=11)
    after = core._ready(())
    assert after.choice is not None and after.choice.name == "openvino"
    assert after.plans.built == 5 and after.plans.loaded == 5
    core.stop()
    never = StreamsCore(dataclasses.replace(settings, backend="onnxruntime"))
    never.describe()
    for name, planes in shown(never, switch_at=None).items():
        apart = np.abs(np.stack(planes).astype(int) - np.stack(switched[name]).astype(int))
        assert len(planes) >= 36 and apart.max() <= 2
