"""A build in a process of its own: what it says, how it fails, and that nothing outlives us."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import select
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from engine.errors import PlanError
from engine.plans.cache import PlanCache
from engine.run_options import RunOptions
from server.engine_link.messages import EngineSettings
from server.engine_link.plan_counts import PlanCounts
from server.engine_process.plan_builder import NICENESS, PlanBuilder, build_command
from tests.server_fakes import engine_settings

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = 60.0


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def settings_for(model: Path, plans: Path) -> EngineSettings:
    return dataclasses.replace(
        engine_settings(), model=str(model), hop_frames=4, plans=PlanCache(plans)
    )


def test_it_builds_what_the_engine_will_load(
    tiny_onnx_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_for(tiny_onnx_model, tmp_path)
    counts = PlanBuilder(build_command(settings, "openvino"), TIMEOUT_S).wait()
    assert counts.built == 5 and counts.loaded == 0 and counts.build_s > 0
    assert len(PlanCache(tmp_path).plans()) == 5
    from engine.backends.openvino_backend import open_model

    opened = open_model(tiny_onnx_model, plans=PlanCache(tmp_path).loading_only())
    opened.warm_up(4)


def test_the_command_says_all_that_plans_depend_on(tiny_onnx_model: Path, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        settings_for(tiny_onnx_model, tmp_path), run=RunOptions(steps=2, precision="f32")
    )
    command = build_command(settings, "torch-cuda")
    for words in (
        ["--model", str(tiny_onnx_model)],
        ["--backend", "torch"],
        ["--hop-frames", "4"],
        ["--plans-dir", str(tmp_path)],
        ["--steps", "2"],
        ["--precision", "f32"],
    ):
        assert words == command[command.index(words[0]) :][:2]
    assert "--window-mode" not in command


def test_what_it_says_is_logged_and_its_settings_and_priority_are_its_own(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LIPWIRE_PLAN_CACHE", "false")
    counts = json.dumps({"counts": asdict(PlanCounts(built=3, build_s=1.5))})
    text = f"""
import os, sys
sys.stderr.write("tuning kernels\\n")
sys.stdin.read(0)
given = sorted(name for name in os.environ if name.startswith("LIPWIRE_"))
sys.stderr.write(f"settings {{given}}\\n")
print({counts!r})
"""
    with caplog.at_level(logging.INFO):
        builder = PlanBuilder(program(text), TIMEOUT_S)
        assert builder.wait() == PlanCounts(built=3, build_s=1.5)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["plan builder: tuning kernels", "plan builder: settings []"]


def test_it_runs_at_a_lower_priority() -> None:
    builder = PlanBuilder(program("import sys; sys.stdin.read()"), TIMEOUT_S)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, builder.pid) == max(own, NICENESS)
    builder.cancel()
    with pytest.raises(PlanError, match="cancelled"):
        builder.wait()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import sys; sys.exit('lipwire: out of memory')", "^out of memory$"),
        ("import os; os._exit(3)", "the builder ended with 3"),
        ("import os; os.kill(os.getpid(), 9)", "the builder ended with -9"),
        ("print('nothing')", "expected a builder's counts, got 'nothing"),
    ],
)
def test_a_build_that_fails_says_why(text: str, why: str) -> None:
    with pytest.raises(PlanError, match=why):
        PlanBuilder(program(text), TIMEOUT_S).wait()


def test_a_build_that_takes_too_long_is_ended_and_says_what_it_was_doing() -> None:
    text = "import sys; print('tuning layer 7', file=sys.stderr, flush=True); sys.stdin.read()"
    builder = PlanBuilder(program(text), 1.0)
    with pytest.raises(PlanError, match=r"within 1 s \(plan_build_timeout_s\).*tuning layer 7"):
        builder.wait()


def test_a_builder_ends_when_the_process_that_started_it_is_killed() -> None:
    parent = f"""
import sys
from server.engine_process.plan_builder import PlanBuilder
builder = PlanBuilder([sys.executable, "-c", {waiting_build()!r}], {TIMEOUT_S})
print(builder.pid, flush=True)
builder.wait()
"""
    with subprocess.Popen(program(parent), cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        watched = os.pidfd_open(pid)
        try:
            process.kill()
            ended, _, _ = select.select([watched], [], [], 20.0)
            assert ended
        finally:
            os.close(watched)


def waiting_build() -> str:
    """A build that never ends by itself."""
    return (
        "import threading\n"
        "from server.engine_process.plan_build import end_with_stdin\n"
        "end_with_stdin()\n"
        "threading.Event().wait()\n"
    )
