"""A folder holds clips of one kind of settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import ConfigError
from training.prepare.settings import SETTINGS_FILE, Settings


def test_a_folder_takes_the_same_settings_again_and_names_what_differs(tmp_path: Path) -> None:
    settings = Settings()
    settings.claim(tmp_path)
    settings.claim(tmp_path)
    with pytest.raises(ConfigError, match="resolution 256 there, 512 now"):
        replace(settings, resolution=512).claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [SETTINGS_FILE]


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="even resolution"):
        Settings(resolution=255)
    with pytest.raises(ConfigError, match="twice the shortest"):
        Settings(shortest_s=3.0, longest_s=5.0)


def test_lengths_are_counted_in_whole_frames() -> None:
    settings = Settings(shortest_s=3.01, longest_s=10.03)
    assert (settings.shortest_frames, settings.longest_frames) == (76, 250)
