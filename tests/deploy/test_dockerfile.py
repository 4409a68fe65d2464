"""The images' descriptions, held to what the server reads and where it writes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from engine.checkpoints import models_dir
from server.config import ENVIRONMENT_PREFIX, load_settings

ROOT = Path(__file__).resolve().parents[2]


def _environment(dockerfile: Path) -> dict[str, str]:
    """What the last stage sets with ENV."""
    text = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ")
    last_stage = text[text.rindex("\nFROM ") :]
    lines = re.findall(r"^ENV (.+)$", last_stage, re.MULTILINE)
    return dict(pair.split("=", 1) for line in lines for pair in line.split())


def _instruction(dockerfile: Path, name: str) -> str:
    """The last line that begins with `name`."""
    text = dockerfile.read_text(encoding="utf-8").replace("\\\n", " ")
    return str(re.findall(rf"^{name} (.+)$", text, re.MULTILINE)[-1])


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the image for CPUs, set for this test."""
    found = _environment(ROOT / "Dockerfile")
    for name, value in found.items():
        if name != "PATH":
            monkeypatch.setenv(name, value)
    return found


def test_the_image_sets_settings_that_the_server_knows(image: dict[str, str]) -> None:
    given = {name for name in image if name.startswith(ENVIRONMENT_PREFIX)}
    settings = load_settings()
    assert {name.removeprefix(ENVIRONMENT_PREFIX).lower() for name in given} <= set(
        type(settings).model_fields
    )
    assert settings.needs_tokens


def test_the_ports_that_the_image_names_are_the_servers(image: dict[str, str]) -> None:
    settings = load_settings()
    assert settings.udp_ports is not None
    first, last = settings.udp_ports
    assert _instruction(ROOT / "Dockerfile", "EXPOSE") == (
        f"{settings.port}/tcp {first}-{last}/udp"
    )


def test_all_that_the_server_writes_lies_in_volumes(image: dict[str, str]) -> None:
    settings = load_settings()
    volumes = re.findall(r'"(/[^"]+)"', _instruction(ROOT / "Dockerfile", "VOLUME"))
    written = [settings.secret_path, settings.uploads_path, settings.plans_path, models_dir()]
    for path in written:
        assert any(path.is_relative_to(volume) for volume in volumes), path


def test_the_user_is_a_number_other_than_roots() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", _instruction(ROOT / "Dockerfile", "USER"))


def test_the_builder_is_sent_every_package_of_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    sent = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert wanted and set(wanted) <= set(sent)
    assert all((ROOT / path).exists() for path in sent)
