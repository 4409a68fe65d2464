"""Judges of sync: which one is asked for, and that the expert's offsets have the right sign."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from engine.errors import ConfigError
from engine.media import F32, FRAME_SAMPLES, U8
from training.prepare.judges import (
    EXPERT_MIN_CONFIDENCE,
    ExpertJudge,
    JudgePlan,
    PublishedJudge,
    judge_plan,
)
from training.prepare.sync import MARGIN_FRAMES, clip_sound, source_offset
from training.sync_network import WEIGHTS_FILE

WINDOW = 6


class LightIsLoud:
    """An expert for which windows of bright pictures belong to windows of loud sound."""

    def __init__(self, frames_heard: int) -> None:
        self._frames = frames_heard

    def see(self, views: U8) -> F32:
        return _windows(views.reshape(len(views), -1).mean(axis=1))

    def hear(self, rows: F32) -> F32:
        return _windows(rows.reshape(self._frames, -1).mean(axis=1))


def _windows(values: F32) -> F32:
    """[n - WINDOW + 1, WINDOW] of unit length, each around its mean."""
    if len(values) < WINDOW:
        return np.zeros((0, WINDOW), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(values, WINDOW).astype(np.float64)
    centred = windows - windows.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1, keepdims=True) + 1e-9
    return np.asarray(centred / length, np.float32)


@pytest.mark.parametrize("late_frames", [-5, 0, 4])
def test_the_experts_offset_moves_sound_back_to_its_pictures(late_frames: int) -> None:
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 2, 120)
    clip = range(30, 90)
    crops = np.repeat(pattern[30:90, None], 64 * 64 * 3, axis=1).reshape(60, 64, 64, 3)
    loudness = np.repeat(np.roll(pattern, late_frames) * 0.3 + 0.003, FRAME_SAMPLES)
    sound = (loudness * rng.standard_normal(len(loudness))).astype(np.float32)
    judge = ExpertJudge(LightIsLoud(len(clip) + 2 * MARGIN_FRAMES))  # type: ignore[arg-type]
    bright = (200 * crops).astype(np.uint8)
    curve = judge.curve(bright, clip_sound(sound, clip, margin=MARGIN_FRAMES))
    assert curve is not None
    assert source_offset([curve]) == -late_frames
    moved = judge.curve(bright, clip_sound(sound, clip, -late_frames, MARGIN_FRAMES))
    assert moved is not None
    assert source_offset([moved]) == 0
    assert moved.confidence(0) == pytest.approx(curve.confidence(-late_frames), abs=0.05)


class _Bright(nn.Module):
    """Windows of pictures [b, 48, 128, 256] by how bright each frame is."""

    def forward(self, frames: Tensor) -> Tensor:
        assert frames.shape[1:] == (48, 128, 256)
        levels = frames.mean(dim=(2, 3)).reshape(-1, 16, 3).mean(dim=2)
        return levels - levels.mean(dim=1, keepdim=True)


class _Loud(nn.Module):
    """Windows of sound [b, 1, 80, 52] by how loud it is in each of their frames."""

    def forward(self, mel: Tensor) -> Tensor:
        assert mel.shape[1:] == (1, 80, 52)
        # A frame is 3.2 columns; its middle one is heard.
        middles = [int(3.2 * frame + 1.6) for frame in range(16)]
        levels = mel.mean(dim=(1, 2))[:, middles]
        return levels - levels.mean(dim=1, keepdim=True)


class PublishedShape(nn.Module):
    """Stands in for the published network: light belongs to loud."""

    def __init__(self) -> None:
        super().__init__()
        self.visual_encoder, self.audio_encoder = _Bright(), _Loud()


@pytest.mark.parametrize(("late_frames", "resolution"), [(-5, 256), (0, 256), (4, 64)])
def test_the_published_networks_windows_of_sound_and_pictures_belong_together(
    late_frames: int, resolution: int
) -> None:
    rng = np.random.default_rng(1)
    pattern = rng.integers(0, 2, 80)
    clip = range(20, 60)
    crops = np.zeros((40, resolution, resolution, 3), np.uint8)
    crops[:] = 40 + 160 * pattern[20:60, None, None, None]
    loudness = np.repeat(np.roll(pattern, late_frames) * 0.3 + 0.003, FRAME_SAMPLES)
    sound = (loudness * rng.standard_normal(len(loudness))).astype(np.float32)
    judge = PublishedJudge(PublishedShape())  # type: ignore[arg-type]
    curve = judge.curve(crops, clip_sound(sound, clip, margin=MARGIN_FRAMES))
    assert curve is not None
    assert source_offset([curve]) == -late_frames
    assert curve.windows == 7
    assert judge.curve(crops[:15], clip_sound(sound, range(20, 35), margin=MARGIN_FRAMES)) is None


def test_a_clip_shorter_than_the_experts_window_has_no_curve() -> None:
    frames = WINDOW - 1
    judge = ExpertJudge(LightIsLoud(frames + 2 * MARGIN_FRAMES))  # type: ignore[arg-type]
    crops = np.zeros((frames, 64, 64, 3), np.uint8)
    sound = np.zeros((frames + 2 * MARGIN_FRAMES) * FRAME_SAMPLES, np.float32)
    assert judge.curve(crops, sound) is None


def test_a_judge_is_named_by_its_weights(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS_FILE).write_bytes(b"weights")
    expert, published = JudgePlan(tmp_path), JudgePlan(tmp_path / WEIGHTS_FILE)
    assert expert.name.startswith("expert ")
    assert published.name.startswith("published ")
    assert expert.name.split()[1] == published.name.split()[1]
    assert (expert.min_confidence, published.min_confidence) == (EXPERT_MIN_CONFIDENCE, None)
    before = expert.name
    (tmp_path / WEIGHTS_FILE).write_bytes(b"other weights")
    assert expert.name != before


def test_weights_that_are_not_there_are_missed_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a sync network's weights"):
        _ = JudgePlan(tmp_path / "absent.pt").name


def test_a_judge_is_asked_for_by_name_or_place(tmp_path: Path) -> None:
    assert judge_plan("none") is None
    plan = judge_plan(str(tmp_path))
    assert plan is not None and plan.path == tmp_path
