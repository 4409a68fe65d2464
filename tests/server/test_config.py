"""Settings from four places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError
from server.config import BUNDLED_AVATARS, load_settings, unread_variables


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LIPWIRE_PORT", "LIPWIRE_HOST", "LIPWIRE_MAX_SESSIONS", "LIPWIRE_AVATAR_DIRS"):
        monkeypatch.delenv(name, raising=False)


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "lipwire.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_command_line_stands_over_environment_over_file_over_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _file(tmp_path, 'port = 1\nhost = "file"\nmax_sessions = 3\nmodel = "file"\n')
    monkeypatch.setenv("LIPWIRE_PORT", "2")
    monkeypatch.setenv("LIPWIRE_HOST", "environment")
    settings = load_settings(config, port=5, backend=None)
    assert settings.port == 5
    assert settings.host == "environment"
    assert settings.max_sessions == 3
    assert settings.backend == "auto"


def test_folders_of_avatars_stand_before_the_bundled_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIPWIRE_AVATAR_DIRS", "/one:/two")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    uploads = Path("/data/lipwire/avatars")
    assert load_settings().avatar_path == (Path("/one"), Path("/two"), BUNDLED_AVATARS, uploads)
    given = load_settings(avatar_dirs=[Path("/three")])
    assert given.avatar_path == (Path("/three"), BUNDLED_AVATARS, uploads)


def test_ports_and_addresses_of_media_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIPWIRE_UDP_PORTS", "50000-50100")
    monkeypatch.setenv("LIPWIRE_PUBLIC_ADDRESSES", "203.0.113.7, 2001:DB8::7")
    settings = load_settings(media_addresses=["10.0.0.5"])
    assert settings.udp_ports == (50_000, 50_100)
    assert settings.public_addresses == ("203.0.113.7", "2001:db8::7")
    assert settings.media_addresses == ("10.0.0.5",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port = 99999", "port"),
        ('port = "many"', "port"),
        ("prot = 1", "prot"),
        ("port = ", "expected TOML"),
        ("max_sessions = 0", "max_sessions"),
        ('udp_ports = "50100-50000"', "FIRST-LAST within 1024-65535, got '50100-50000'"),
        ('udp_ports = "50000"', "FIRST-LAST"),
        ('public_addresses = ["example.org"]', "public_addresses.0: .*IPv4 or IPv6"),
    ],
)
def test_an_unusable_file_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_settings(_file(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_settings(tmp_path / "nowhere.toml")


def test_an_unusable_environment_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIPWIRE_PORT", "many")
    with pytest.raises(ConfigError, match=r"port.*LIPWIRE_"):
        load_settings()


def test_a_variable_that_nothing_reads_is_told_with_the_name_it_is_nearest_to() -> None:
    environment = {
        "LIPWIRE_MAX_SESSION": "4",
        "LIPWIRE_SERVICE_HOST": "10.0.0.1",
        "LIPWIRE_TOKEN_SECRET": "s",
        "LIPWIRE_MODELS_DIR": "models",
        "lipwire_port": "9000",
        "PATH": "bin",
    }
    assert unread_variables(environment) == [
        "LIPWIRE_MAX_SESSION is no setting and is ignored; did you mean LIPWIRE_MAX_SESSIONS?",
        "LIPWIRE_SERVICE_HOST is no setting and is ignored",
    ]


def test_the_turn_secret_is_read_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "turn_secret"
    secret.write_text("north\n", encoding="utf-8")
    monkeypatch.setenv("LIPWIRE_TURN_SECRET_FILE", str(secret))
    config = _file(tmp_path, 'turn_urls = ["turn:turn.example:3478"]')
    found = load_settings(config).turn_secret
    assert found is not None and found.get_secret_value() == "north"


@pytest.mark.parametrize(
    ("content", "given", "message"),
    [
        (None, {}, "expected the TURN secret in .*No such file"),
        ("\n", {}, "it is empty"),
        ("north", {"turn_secret": "south"}, "turn_secret or turn_secret_file, got both"),
    ],
)
def test_a_turn_secret_that_cannot_be_read_is_refused(
    tmp_path: Path, content: str | None, given: dict[str, Any], message: str
) -> None:
    path = tmp_path / "turn_secret"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_settings(turn_urls=["turn:turn.example:3478"], turn_secret_file=path, **given)
    assert "north" not in str(caught.value)


def test_what_belongs_together_may_come_from_environment_and_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPWIRE_TURN_SECRET", "north")
    config = _file(tmp_path, 'turn_urls = ["turn:turn.example:3478"]')
    assert load_settings(config).turn_secret is not None


def test_passthrough_chooses_another_core() -> None:
    assert load_settings(backend="passthrough").engine_core.endswith("PassthroughCore")
    assert load_settings().engine_core.endswith("StreamsCore")
