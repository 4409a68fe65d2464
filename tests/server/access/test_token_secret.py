"""The secret's file and the command that signs with it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from engine.errors import ConfigError
from server.access.auth import Tokens
from server.access.token_secret import default_secret_path, read_or_make_secrets
from server.cli import main


@pytest.fixture(autouse=True)
def no_secret_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIPWIRE_TOKEN_SECRET", raising=False)


def test_the_first_start_makes_a_secret_that_only_its_user_can_read(tmp_path: Path) -> None:
    path = tmp_path / "config" / "token-secret"
    (secret,) = read_or_make_secrets(path)
    assert len(secret) == 64 and read_or_make_secrets(path) == (secret,)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["token-secret"]


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("s" * 32)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match=r"mode 640: chmod 600"):
        read_or_make_secrets(path)


def test_a_secret_that_cannot_be_kept_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="token_secret_file, or LIPWIRE_TOKEN_SECRET"):
        read_or_make_secrets(tmp_path / "file" / "secret")


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIPWIRE_TOKEN_SECRET", "e" * 40)
    assert read_or_make_secrets(tmp_path / "secret") == (b"e" * 40,)
    assert not (tmp_path / "secret").exists()


def test_several_secrets_are_read_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_text("n" * 32 + "\n" + "o" * 32 + "\n")
    path.chmod(0o600)
    assert read_or_make_secrets(path) == (b"n" * 32, b"o" * 32)
    monkeypatch.setenv("LIPWIRE_TOKEN_SECRET", "a" * 32 + " " + "b" * 32)
    assert read_or_make_secrets(path) == (b"a" * 32, b"b" * 32)
    for unusable in (" ", " ".join("abcde")):
        monkeypatch.setenv("LIPWIRE_TOKEN_SECRET", unusable)
        with pytest.raises(ConfigError, match="expected 1 to 4 token secrets"):
            read_or_make_secrets(path)


def test_it_lies_in_the_users_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert default_secret_path() == tmp_path / "lipwire" / "token-secret"


def test_the_command_prints_a_token_of_the_servers_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "secret"
    given = ["token", "--token-secret-file", str(path), "--scope", "metrics", "--ttl", "1h"]
    assert main(given) == 0
    token = capsys.readouterr().out.strip()
    grant = Tokens(read_or_make_secrets(path)[0]).verify(token)
    assert grant.allows("metrics") and not grant.allows("call")
    path.write_text("n" * 32 + "\n" + path.read_text())
    assert main(given) == 0
    newer = capsys.readouterr().out.strip()
    assert Tokens(b"n" * 32).verify(newer).allows("metrics"), "the first one signs"
    assert main([*given[:-1], "soon"]) == 1
    assert "30d" in capsys.readouterr().err
