"""The unit of systemd, held to the server's settings and folders."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.checkpoints import models_dir
from server.config import load_settings

UNIT = Path(__file__).resolve().parents[2] / "deploy" / "lipwire.service"


def _values(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in _values("Environment"):
        for pair in line.split():
            monkeypatch.setenv(*pair.split("=", 1))


def test_calls_have_time_to_end_and_the_engine_outlives_the_signal() -> None:
    (timeout_s,) = _values("TimeoutStopSec")
    assert float(timeout_s) > load_settings().drain_timeout_s
    assert _values("KillMode") == ["mixed"]


def test_all_that_the_server_writes_lies_in_the_units_folders() -> None:
    settings = load_settings()
    assert settings.log_format == "json"
    folders = [
        f"/var/lib/{_values('StateDirectory')[0]}",
        f"/var/cache/{_values('CacheDirectory')[0]}",
    ]
    for path in (settings.secret_path, settings.uploads_path, settings.plans_path, models_dir()):
        assert any(path.is_relative_to(folder) for folder in folders), path


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    unit = tmp_path / "lipwire.service"
    text = UNIT.read_text(encoding="utf-8")
    unit.write_text(re.sub(r"^ExecStart=.*$", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 0 and "lipwire.service" not in done.stderr, done.stderr
