"""A video with a planted offset, written and read by the real code; face and expert are toys."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import sync_video
from engine.face.tracked import Tracked, TrackedFace
from engine.media import F32, Picture
from server.media.media_files import Mp4Writer
from tests.toy_expert import Levels
from training.dataset import BUNDLED_FACE

FRAMES = 75
POINTS = np.asarray(BUNDLED_FACE.template, np.float32) + np.asarray((20, 60), np.float32)


class Found:
    """A tracker that has the face everywhere."""

    def __init__(self, detector: object) -> None:
        pass

    def update(self, picture: Picture) -> Tracked:
        return Tracked(TrackedFace(POINTS, 1.0), cut=False)


def write_video(path: Path, levels: F32, loudness: F32) -> Path:
    """Grey pictures of 160 x 240 as bright, and noise as loud, as told for each frame."""
    noise = np.random.default_rng(1).normal(0, 0.1, (1, FRAMES * 1920))
    with Mp4Writer(path, width=160, height=240, channels=1, crf=10) as writer:
        for level in levels:
            i420 = np.full((360, 160), 128, np.uint8)
            i420[:240] = int(level)
            writer.add_picture(Picture(i420))
        writer.add_sound((noise * np.repeat(loudness, 1920)).astype(np.float32))
    return path


def test_a_videos_planted_offset_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = np.random.default_rng(4)
    opening = np.convolve(dice.uniform(0, 1, FRAMES + 3), np.full(4, 0.25), "valid")
    shown = 220 - 180 * np.roll(opening, 3)
    loudness = 10 ** (opening - 1.0)
    path = write_video(tmp_path / "talk.mp4", shown.astype(np.float32), loudness.astype(np.float32))
    monkeypatch.setattr(sync_video, "FaceTracker", Found)
    monkeypatch.setattr(sync_video, "load_expert", Levels)
    assert sync_video.main([str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["offset_frames"] == 3 and said["confidence"] > 0.5
    assert sync_video.main([str(path)]) == 0
    assert "pictures +3 frames late" in capsys.readouterr().out


def test_a_video_without_a_face_or_a_file_that_is_none_has_no_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = np.full(FRAMES, 90.0, np.float32)
    path = write_video(tmp_path / "wall.mp4", still, np.ones(FRAMES, np.float32))
    assert sync_video.main([str(path)]) == 1
    assert "no mouth is seen for 16 frames" in capsys.readouterr().err
    assert sync_video.main([str(tmp_path / "nothing.mp4")]) == 1
    assert "nothing.mp4" in capsys.readouterr().err
