"""`lipwire avatar add|remove`: one's own face, from a file on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.avatar import load_avatar
from server.avatars.uploads import WORK
from server.cli import main
from tests.photograph import portrait_rgb


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where avatars are added when nothing is said."""
    monkeypatch.setenv("LIPWIRE_UPLOADS_DIR", str(tmp_path / "avatars"))
    return tmp_path / "avatars"


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "grace.png"
    cv2.imwrite(str(path), portrait_rgb()[..., ::-1])
    return path


def left_over(folder: Path) -> list[str]:
    return [path.name for path in (folder / WORK).iterdir()] if (folder / WORK).is_dir() else []


def test_a_picture_becomes_an_avatar_that_is_listed_and_can_be_removed(
    folder: Path, portrait: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add = ["avatar", "add", str(portrait), "--title", "Grace Hopper", "--licence", "public domain"]
    assert main([*add, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["title"], told["licence"]) == (
        "grace",
        "Grace Hopper",
        "public domain",
    )
    avatar = load_avatar(folder / "grace")
    assert len(avatar.pictures) == told["frames"] and left_over(folder) == []
    assert main(["avatar", "list"]) == 0
    assert "Grace Hopper" in capsys.readouterr().out
    assert main(add) == 1
    assert "'grace', which is taken: give --name" in capsys.readouterr().err
    assert main(["avatar", "remove", "grace"]) == 0
    assert not (folder / "grace").exists()
    assert main(["avatar", "remove", "grace"]) == 1
    assert "expected an avatar that was added (none), got 'grace'" in capsys.readouterr().err


def test_bundled_avatars_and_paths_cannot_be_removed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("anna", "../avatars", "."):
        assert main(["avatar", "remove", name]) == 1
        assert "expected an avatar that was added" in capsys.readouterr().err


def test_what_cannot_become_an_avatar_is_told_and_leaves_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blank, text = tmp_path / "blank.png", tmp_path / "text.mp4"
    cv2.imwrite(str(blank), np.full((200, 200, 3), 90, np.uint8))
    text.write_text("no video")
    for clip, name, words in [
        (blank, "blank", "expected a face in the first picture"),
        (text, "text", "expected an MP4, MOV or WebM video"),
        (tmp_path / "absent.mp4", "absent", "expected a video or picture at"),
        (blank, "two words", "give --name"),
        (blank, "anna", "which is taken"),
    ]:
        assert main(["avatar", "add", str(clip), "--name", name]) == 1
        error = capsys.readouterr().err
        assert error.startswith("lipwire: ") and words in error
        assert not (folder / name).exists() and left_over(folder) == []
