"""Videos of a folder, and who is kept for validation."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import ConfigError
from training.prepare.sources import find_sources, split_people


def test_videos_are_found_below_the_folder_in_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/two.MOV", "b/notes.txt", "a.mp4", "b/c/three.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * len(name))
    sources = find_sources(tmp_path)
    assert [source.name for source in sources] == ["a.mp4", "b/c/three.mkv", "b/two.MOV"]
    assert [source.person for source in sources] == ["a.mp4", "b", "b"]
    assert len({source.key for source in sources}) == 3
    assert sources[0].bytes == 5


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected videos"):
        find_sources(tmp_path)
    with pytest.raises(ConfigError, match="found none"):
        find_sources(tmp_path / "absent")


def test_about_the_share_of_people_is_for_validation() -> None:
    people = [f"person {index}" for index in range(1000)]
    split = split_people(people, 0.1, seed=0)
    assert 70 < list(split.values()).count("validation") < 130
    assert split_people(people, 0.1, seed=1) != split


def test_people_who_are_added_move_nobody() -> None:
    few = [f"person {index}" for index in range(200)]
    before = split_people(few, 0.1, seed=0)
    after = split_people([*few, *(f"new {index}" for index in range(50))], 0.1, seed=0)
    assert {person: after[person] for person in few} == before


def test_of_several_people_somebody_is_in_each_split() -> None:
    for share in (0.0001, 0.9999):
        split = split_people(["a", "b", "c"], share, seed=0)
        assert set(split.values()) == {"train", "validation"}
    assert split_people(["a"], 0.0001, seed=0) == {"a": "train"}
    assert set(split_people(["a", "b"], 0.0, seed=0).values()) == {"train"}
