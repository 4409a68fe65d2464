"""Toy videos are what their names say."""

from __future__ import annotations

from pathlib import Path

from training.prepare.check import check_source
from training.prepare.sound import load_sound, speaking_share
from training.toy_videos import make_people


def test_a_person_talks_for_as_long_as_was_asked(tmp_path: Path) -> None:
    make_people(tmp_path, 1, 0.6)
    path = tmp_path / "person00" / "talk.mp4"
    info = check_source(path, 0.5)
    assert info.frames == 15
    assert speaking_share(load_sound(path, info.origin)) > 0.0
