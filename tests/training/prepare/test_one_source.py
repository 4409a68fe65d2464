"""One video through all the stages, with a judge that wants its sound moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from engine.face.haar import HaarDetector
from engine.media import F32, FRAME_SAMPLES, U8
from tests.prepared_videos import head_video, heads, murmur
from training.prepare.check import check_source
from training.prepare.one_source import PASSES, StageClock, Tools, prepare_source
from training.prepare.quality import MeasuredQuality
from training.prepare.records import Prepared
from training.prepare.settings import Settings
from training.prepare.sound import load_sound
from training.prepare.sources import find_sources
from training.prepare.sync import MARGIN_FRAMES, SyncCurve, SyncJudge, clip_sound
from training.toy_videos import steady, write_video

SETTINGS = Settings(resolution=64, shortest_s=1.0, longest_s=2.0, smallest_face=32.0)


class LateBy:
    """Finds the sound of every clip some frames late."""

    def __init__(self, frames: int) -> None:
        self._frames = frames

    def curve(self, crops: U8, samples: F32) -> SyncCurve:
        assert len(samples) == (len(crops) + 2 * MARGIN_FRAMES) * FRAME_SAMPLES
        distances = np.ones(2 * MARGIN_FRAMES + 1)
        distances[MARGIN_FRAMES + self._frames] = 0.5
        return SyncCurve(distances, len(crops))


def prepare(
    videos: Path, out: Path, judge: SyncJudge | None = None, settings: Settings = SETTINGS
) -> tuple[Prepared, float]:
    """What becomes of the only video, and the seconds of work that were told of."""
    (out / "clips").mkdir(parents=True)
    cv2.setNumThreads(1)
    told: list[float] = []
    tools = Tools(HaarDetector(), MeasuredQuality(), judge)
    (source,) = find_sources(videos)
    prepared = prepare_source(source, settings, tools, out, StageClock(), told.append)
    return prepared, sum(told)


def test_the_clip_has_the_sound_that_the_judge_moved(tmp_path: Path) -> None:
    path = head_video(tmp_path / "v.mp4", 1.8)
    prepared, told_s = prepare(tmp_path, tmp_path / "out", LateBy(3))
    (clip,) = prepared.clips
    assert (clip.moved_frames, clip.offset_frames, clip.sync_confidence) == (-3, 0, 0.5)
    first = round(clip.start_s * 25)
    whole = load_sound(path, check_source(path, 1.0).origin)
    with av.open(str(tmp_path / "out" / clip.file)) as container:
        parts = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    written = np.concatenate(parts).astype(np.float32) / 32767.0
    expected = clip_sound(whole, range(first, first + clip.frames), -3)
    assert np.abs(written - expected).max() < 1e-4
    assert [found.reason for found in prepared.findings if found.stage == "sync"] == [
        "sound moved: by -3 frames"
    ]
    assert told_s == pytest.approx(PASSES * 1.8)


def test_sound_that_is_too_far_off_or_fits_too_little_leaves_no_clip(tmp_path: Path) -> None:
    head_video(tmp_path / "v.mp4", 1.8)
    far, _ = prepare(tmp_path, tmp_path / "far", LateBy(7))
    strict = replace(SETTINGS, min_confidence=0.6)
    poor, _ = prepare(tmp_path, tmp_path / "poor", LateBy(0), strict)
    assert far.findings[-1].reason == "sound too far off: +7 frames"
    assert poor.findings[-1].reason == "mouth does not fit the sound: confidence 0.5"
    for name, prepared in (("far", far), ("poor", poor)):
        assert prepared.clips == ()
        assert list((tmp_path / name / "clips").iterdir()) == []


def test_a_clip_in_which_nobody_speaks_is_left_out(tmp_path: Path) -> None:
    frames = 45
    quiet = 0.001 * murmur(frames)
    write_video(tmp_path / "v.mp4", heads(frames), steady(frames), quiet)
    prepared, _ = prepare(tmp_path, tmp_path / "out")
    assert prepared.clips == ()
    assert "nobody speaks" in {found.reason for found in prepared.findings}


def test_a_blurred_clip_is_left_out(tmp_path: Path) -> None:
    frames = 45
    soft = [np.asarray(cv2.GaussianBlur(head, (0, 0), 6.0), np.uint8) for head in heads(frames)]
    write_video(tmp_path / "v.mp4", soft, steady(frames), murmur(frames))
    prepared, _ = prepare(tmp_path, tmp_path / "out")
    assert prepared.clips == ()
    assert any(found.reason.startswith("poor pictures") for found in prepared.findings)
