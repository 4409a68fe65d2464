"""Whole runs: what comes out of a folder, and that no death changes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError
from tests.prepared_videos import head_video
from training.prepare.__main__ import main
from training.prepare.one_source import Tools
from training.prepare.run import RECORDS, Job, read_record, run_sources
from training.prepare.settings import Settings
from training.prepare.sources import find_sources
from training.prepare.tools import ToolPlan

SMALL = ["--resolution", "64", "--shortest", "1", "--longest", "2", "--sync", "none"]
DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of heads and one that is none."""
    folder = tmp_path_factory.mktemp("videos")
    for name in ("anna", "marco"):
        (folder / name).mkdir()
        head_video(folder / name / "one.mp4", 1.8, name)
    (folder / "anna" / "two.mp4").write_bytes((folder / "anna" / "one.mp4").read_bytes())
    (folder / "broken.mp4").write_bytes(b"no video" * 50)
    return folder


@pytest.fixture(scope="module")
def whole(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run leaves."""
    out = tmp_path_factory.mktemp("whole")
    assert main(["--videos", str(videos), "--out", str(out), *SMALL]) == 0
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_folder_becomes_clips_a_listing_and_a_report(whole: Path) -> None:
    clips = lines(whole / "clips.jsonl")
    assert [clip["source"] for clip in clips] == ["anna/one.mp4", "anna/two.mp4", "marco/one.mp4"]
    for clip in clips:
        assert (whole / clip["file"]).is_file()
        assert 25 <= clip["frames"] <= 50
        assert clip["offset_frames"] == 0
    people = {clip["source"].partition("/")[0]: clip["split"] for clip in clips}
    assert set(people.values()) == {"train", "validation"}
    assert len({clip["split"] for clip in clips if clip["source"].startswith("anna")}) == 1
    broken = [line for line in lines(whole / "report.jsonl") if line["file"] == "broken.mp4"]
    assert [line["stage"] for line in broken] == ["check"]
    assert broken[0]["reason"].startswith("unreadable")


def test_what_came_in_is_what_went_out_and_what_was_left_out(whole: Path) -> None:
    out = sum(clip["frames"] for clip in lines(whole / "clips.jsonl")) / 25
    left = sum(line["seconds"] for line in lines(whole / "report.jsonl") if not line["kept"])
    assert out + left == pytest.approx(3 * 1.8, abs=0.05)


def test_a_run_that_was_killed_ends_with_the_same_bytes(
    videos: Path, whole: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "training.prepare", "--videos", str(videos), "--out"]
    process = subprocess.Popen([*command, str(tmp_path), *SMALL], stdout=subprocess.DEVNULL)
    records = tmp_path / RECORDS
    deadline = time.monotonic() + DEADLINE_S
    while not list(records.glob("*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(records.glob("*.json"))) < 4
    assert main([*command[3:], str(tmp_path), *SMALL]) == 0
    assert contents(tmp_path) == contents(whole)


def test_a_second_run_does_nothing_and_other_settings_are_refused(
    videos: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(whole)
    arguments = ["--videos", str(videos), "--out", str(whole)]
    assert main([*arguments, *SMALL]) == 0
    assert "4 of 4 videos were done before" in capsys.readouterr().out
    assert main([*arguments, *SMALL, "--min-quality", "10"]) == 1
    assert "min_quality 40.0 there, 10.0 now" in capsys.readouterr().err
    assert contents(whole) == before


class DeadlyPlan(ToolPlan):
    """Opens tools that end their process."""

    def open(self) -> Tools:
        tools = super().open()
        return Tools(_Deadly(), tools.quality, tools.sync)  # type: ignore[arg-type]


class _Deadly:
    parts = 1

    def search(self, picture: object, part: int) -> list[object]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []


def test_a_video_that_kills_its_process_is_reported_and_the_others_go_on(
    videos: Path, tmp_path: Path
) -> None:
    sources = find_sources(videos)[1:]
    assert [source.name for source in sources] == ["anna/two.mp4", "broken.mp4", "marco/one.mp4"]
    settings = Settings(resolution=64, shortest_s=1.0, longest_s=2.0)
    run_sources(sources[:2], Job(settings, DeadlyPlan(), tmp_path), 1, lambda seconds: None)
    dead, broken = (read_record(tmp_path, source) for source in sources[:2])
    assert dead is not None and broken is not None
    assert dead.findings[0].reason == "ended its process: exit status -9"
    assert broken.findings[0].reason.startswith("unreadable")


class AbsentPlan(ToolPlan):
    """Has no tools."""

    def open(self) -> Tools:
        raise ConfigError("no tools here")


def test_a_run_without_its_tools_stops_at_once(videos: Path, tmp_path: Path) -> None:
    job = Job(Settings(), AbsentPlan(), tmp_path)
    with pytest.raises(ConfigError, match="no tools here"):
        run_sources(find_sources(videos), job, 2, lambda seconds: None)
    assert list((tmp_path / RECORDS).iterdir()) == []
