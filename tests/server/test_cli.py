"""The command line."""

from __future__ import annotations

import importlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import latency
from server.cli import main
from tests.server_fakes import make_avatar

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    "command", ["serve", "render", "fetch", "avatar", "plans", "token", "doctor", "bench"]
)
def test_every_command_has_help_with_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"lipwire {command}" in capsys.readouterr().out.split("example", 1)[1]


def test_the_benches_that_exist_are_listed_and_no_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    listed = capsys.readouterr().out.split("benches:", 1)[1].split("examples", 1)[0].splitlines()
    names = [line.split()[0] for line in listed if line.strip()]
    assert "latency" in names
    for name in names:
        assert (ROOT / "benchmarks" / f"{name}.py").exists() or (
            ROOT / "benchmarks" / name / "__init__.py"
        ).exists()


def test_a_bench_gets_its_own_arguments_its_help_and_gives_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["bench", "latency", "--help"])
    assert caught.value.code == 0
    assert "lipwire bench latency --avatar" in capsys.readouterr().out
    given: list[str] = []

    def bench(arguments: Sequence[str]) -> int:
        given.extend(arguments)
        return 3

    monkeypatch.setattr(latency, "main", bench)
    assert main(["bench", "latency", "--seconds", "1", "--stock"]) == 3
    assert given == ["--seconds", "1", "--stock"]


def test_a_bench_whose_packages_are_absent_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(name: str) -> ModuleType:
        raise ModuleNotFoundError("No module named 'httpx'")

    monkeypatch.setattr(importlib, "import_module", absent)
    assert main(["bench", "latency"]) == 1
    error = capsys.readouterr().err
    assert "httpx" in error and 'pip install -e ".[bench]"' in error


def test_avatars_are_listed_for_people_and_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_avatar(tmp_path)
    assert main(["avatar", "list", "--dir", str(tmp_path)]) == 0
    assert re.search(r"ada +64x48 +10 frames +Ada", capsys.readouterr().out)
    assert main(["avatar", "list", "--json", "--dir", str(tmp_path)]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert next(entry for entry in listed if entry["name"] == "ada")["frames"] == 10


def test_an_unusable_setting_is_one_line_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--config", str(tmp_path / "none.toml")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("lipwire: expected a TOML file") and error.count("\n") == 1


def _serve(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "server", "serve", "--log-level", "error", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_serve_says_where_it_listens_and_ends_cleanly_on_a_signal() -> None:
    with _serve("--port", "0", "--backend", "passthrough") as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert re.fullmatch(r"Lipwire is ready: http://localhost:\d+\n", line)
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    assert errors == ""


def test_a_model_that_is_not_there_is_told_in_one_line() -> None:
    with _serve("--port", "0", "--model", "/nowhere") as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("lipwire: ") and "/nowhere" in errors and "Traceback" not in errors


def test_a_port_that_is_taken_is_told_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with _serve("--port", port, "--backend", "passthrough") as process:
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors.startswith("lipwire: ") and port in errors and "Traceback" not in errors
