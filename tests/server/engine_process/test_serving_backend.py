"""A better backend is built and loaded beside the one that serves, and takes over or does not."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from engine.backends import select
from engine.backends.availability import NeedsPlan, Ready
from engine.backends.base import Backend, GeneratedHop, HopInput, SessionState
from engine.backends.select import Candidate, OpenRequest
from engine.backends.switching import TRIAL_HOPS
from engine.errors import BackendError, PlanError
from engine.plans.cache import PlanCache
from server.engine_link.plan_counts import PlanCounts
from server.engine_process.serving_backend import ServingBackend
from tests.fakes import FakeBackend
from tests.tiny_models import make_tiny_model
from tests.toy_plans import ToyMaker, toy_key

HOP = 4
TIMEOUT_S = 30.0


class Slow(FakeBackend):
    """Serves at once."""

    name = "slow"


class Fast(FakeBackend):
    """Runs a plan; may fail in its hops."""

    name = "fast"
    broken = False

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        if self.broken:
            raise RuntimeError("an illegal memory access")
        return super().run_hop(batch)


@dataclass
class StandInBuilder:
    """A build that ends when the test says so."""

    plans: PlanCache
    failure: str = ""
    go_on: threading.Event = field(default_factory=threading.Event)
    cancelled: bool = False

    def wait(self) -> PlanCounts:
        assert self.go_on.wait(TIMEOUT_S)
        if self.cancelled or self.failure:
            raise PlanError(self.failure or "cancelled")
        self.plans.open(toy_key(), ToyMaker()).close()
        return PlanCounts(built=1, build_s=200.0)

    def cancel(self) -> None:
        self.cancelled = True
        self.go_on.set()


@dataclass
class Machine:
    """A machine with a fast backend, whose plan takes minutes, and a slow one."""

    request: OpenRequest
    builder: StandInBuilder
    builds: list[str] = field(default_factory=list)

    def serving(
        self,
        name: str = "auto",
        longest_build_s: float | None = 20.0,
        failed_builds: Mapping[str, str] | None = None,
    ) -> ServingBackend:
        def build(candidate: str) -> StandInBuilder:
            self.builds.append(candidate)
            return self.builder

        return ServingBackend(
            self.request,
            name,
            lambda backend: {HOP: 5.0 if backend.name == "fast" else 30.0},
            build,
            avoid={},
            longest_build_s=longest_build_s,
            failed_builds=failed_builds or {},
        )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    make_tiny_model(tmp_path / "model")
    plans = PlanCache(tmp_path / "plans")

    def open_fast(request: OpenRequest) -> Backend:
        assert request.plans is not None
        request.plans.open(toy_key(), ToyMaker())
        return Fast()

    def candidate(
        name: str, opened: Callable[[OpenRequest], Backend], plans: NeedsPlan | None = None
    ) -> Candidate:
        return Candidate(name, lambda folder: Ready("there"), opened, plans)

    monkeypatch.setattr(
        select,
        "CANDIDATES",
        (
            candidate("tensorrt", open_fast, NeedsPlan(build_s=300.0)),
            candidate("onnxruntime", lambda request: Slow()),
        ),
    )
    return Machine(OpenRequest(tmp_path / "model", plans=plans), StandInBuilder(plans))


def hop(backend: Backend, state: SessionState) -> list[str]:
    """Runs one hop; its backend's name before and after."""
    spec = backend.spec
    latents = np.zeros((HOP, spec.codec.latent_channels, spec.latent_size, spec.latent_size))
    mel = np.zeros((HOP, spec.audio.n_mels, spec.audio.mel_frames), np.float32)
    face = latents.astype(np.float32)
    name = backend.name
    backend.run_hop([HopInput(state, mel, face, face)])
    return [name, backend.name]


def until_changed(serving: ServingBackend) -> None:
    serving.wait(TIMEOUT_S)
    assert serving.poll()


def test_the_next_best_serves_while_the_plan_is_built_and_then_gives_way(machine: Machine) -> None:
    serving = machine.serving()
    assert serving.backend.name == "slow" and machine.builds == []
    assert serving.choice.name == "onnxruntime" and serving.hops_ms == {HOP: 30.0}
    assert serving.choice.why == "the plan for tensorrt is being built, which takes over then"
    assert [item.reason for item in serving.choice.passed] == ["building"]
    state = serving.backend.new_session(hop_frames=HOP, seed=0)
    assert not serving.poll() and machine.builds == ["tensorrt"]
    assert hop(serving.backend, state) == ["slow", "slow"] and not serving.poll()
    machine.builder.go_on.set()
    until_changed(serving)
    assert serving.choice.name == "tensorrt" and serving.choice.passed == ()
    assert serving.choice.why == "it is the best" and serving.hops_ms == {HOP: 5.0}
    for _ in range(TRIAL_HOPS):
        assert hop(serving.backend, state) == ["fast", "fast"]
    assert not serving.poll()
    assert serving.plan_counts == PlanCounts(loaded=1, built=1, build_s=200.0)


def test_a_kept_plan_is_served_from_at_once(machine: Machine) -> None:
    assert machine.request.plans is not None
    machine.request.plans.open(toy_key(), ToyMaker()).close()
    serving = machine.serving()
    assert serving.backend.name == "fast" and serving.choice.why == "it is the best"
    assert not serving.poll() and machine.builds == []
    assert serving.plan_counts.loaded == 1


def test_a_short_build_and_who_wants_to_wait_are_waited_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = machine.serving(longest_build_s=None)
    assert waiting.backend.name == "fast" and waiting.plan_counts.built == 1
    assert machine.builds == []
    assert machine.request.plans is not None
    machine.request.plans.prune(max_bytes=0)
    patient = machine.serving(longest_build_s=400.0)
    assert patient.backend.name == "fast" and machine.builds == []


def test_without_a_cache_there_is_no_way_to_build_beside(machine: Machine) -> None:
    machine.request = OpenRequest(machine.request.model_dir)
    with pytest.raises(BackendError, match="AssertionError"):
        machine.serving("tensorrt")  # it was opened, not put off


def test_a_backend_that_was_named_is_stood_in_for_only_while_its_plan_is_built(
    machine: Machine,
) -> None:
    serving = machine.serving("tensorrt")
    assert serving.backend.name == "slow"
    serving.poll()
    machine.builder.go_on.set()
    until_changed(serving)
    assert serving.backend.name == "fast" and serving.choice.why == "it was asked for"


def test_a_build_that_fails_is_told_and_not_tried_again(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.builder.failure = "out of memory"
    serving = machine.serving()
    serving.poll()
    machine.builder.go_on.set()
    until_changed(serving)
    assert serving.backend.name == "slow"
    (passed,) = serving.choice.passed
    assert passed.broken and passed.detail == "out of memory"
    assert serving.choice.why == "tensorrt does not work: out of memory"
    assert "staying on slow: out of memory" in caplog.text
    assert not serving.poll() and machine.builds == ["tensorrt"]
    restarted = machine.serving(failed_builds=serving.failed_builds)
    assert restarted.choice == serving.choice and not restarted.poll()
    assert machine.builds == ["tensorrt"]


def test_a_plan_that_was_built_and_is_still_not_accepted_is_told(machine: Machine) -> None:
    serving = machine.serving()
    serving.poll()
    assert machine.request.plans is not None
    machine.builder.plans = PlanCache(machine.request.plans.folder.parent / "elsewhere")
    machine.builder.go_on.set()
    until_changed(serving)
    assert "there is no plan of unet" in serving.choice.passed[0].detail


def test_a_better_backend_that_fails_its_first_hops_gives_the_place_back(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fast, "broken", True)
    serving = machine.serving()
    state = serving.backend.new_session(hop_frames=HOP, seed=0)
    serving.poll()
    machine.builder.go_on.set()
    until_changed(serving)
    assert hop(serving.backend, state) == ["fast", "slow"]
    assert serving.poll()
    assert serving.choice.name == "onnxruntime" and serving.hops_ms == {HOP: 30.0}
    assert "failed in its first hops" in serving.choice.why
    assert not serving.poll()


def test_stopping_cancels_the_build_and_says_nothing_of_a_failure(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    serving = machine.serving()
    serving.poll()
    with caplog.at_level(logging.WARNING):
        serving.stop()
    assert machine.builder.cancelled and caplog.records == []
    machine.serving().stop()  # before anything has begun
