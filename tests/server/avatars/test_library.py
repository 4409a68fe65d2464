"""Avatars on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import AvatarError
from server.avatars.library import AvatarLibrary
from tests.server_fakes import make_avatar


def test_earlier_folders_win_and_broken_ones_are_left_out(tmp_path: Path) -> None:
    make_avatar(tmp_path / "mine", "ada", frames=3)
    make_avatar(tmp_path / "bundled", "ada", frames=5)
    make_avatar(tmp_path / "bundled", "bob", frames=5)
    (tmp_path / "mine" / "broken").mkdir()
    (tmp_path / "mine" / "broken" / "avatar.json").write_text('{"frames": "many"}')
    (tmp_path / "mine" / "not an avatar").mkdir()
    library = AvatarLibrary((tmp_path / "mine", tmp_path / "bundled", tmp_path / "nowhere"))
    assert [(info.name, info.frames) for info in library.infos()] == [("ada", 3), ("bob", 5)]
    assert library.get("bob").folder == tmp_path / "bundled" / "bob"


@pytest.mark.parametrize("name", ["eve", "", "..", "../ada", "/etc", "a" * 100, "a\n"])
def test_an_unknown_name_is_refused_and_the_known_ones_told(tmp_path: Path, name: str) -> None:
    make_avatar(tmp_path)
    with pytest.raises(AvatarError, match="ada"):
        AvatarLibrary((tmp_path,)).get(name)


def test_a_poster_is_the_clips_first_picture_as_jpeg(tmp_path: Path) -> None:
    make_avatar(tmp_path)
    assert AvatarLibrary((tmp_path,)).poster("ada").startswith(b"\xff\xd8\xff")


def test_a_clip_that_is_no_video_has_no_poster(tmp_path: Path) -> None:
    make_avatar(tmp_path)
    (tmp_path / "ada" / "clip.mp4").write_bytes(b"not a video")
    with pytest.raises(AvatarError, match="video clip"):
        AvatarLibrary((tmp_path,)).poster("ada")
