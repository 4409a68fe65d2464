"""What confidence is worth: clips with their own sound stand out from clips with another's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ConfigError
from engine.media import F32, FRAME_SAMPLES, U8
from training.prepare.clip_file import write_clip
from training.prepare.confidence import main, own_and_others, read_clips
from training.prepare.sync import MARGIN_FRAMES, SyncCurve

FRAMES = 2 * MARGIN_FRAMES + 10


class BrightIsLoud:
    """Finds sound in time where pictures are as bright as it is loud."""

    def curve(self, crops: U8, samples: F32) -> SyncCurve:
        assert len(samples) == (len(crops) + 2 * MARGIN_FRAMES) * FRAME_SAMPLES
        distances = np.ones(2 * MARGIN_FRAMES + 1)
        distances[MARGIN_FRAMES] = abs(float(crops.mean()) / 255 - float(np.abs(samples).max()))
        return SyncCurve(distances, len(crops))


def write_clips(folder: Path, levels: list[float], frames: int = FRAMES) -> None:
    """Clips that are as bright as they are loud."""
    for number, level in enumerate(levels):
        grey = np.full((frames, 16, 16, 3), round(255 * level), np.uint8)
        write_clip(
            folder / f"{number}.mp4", grey, np.full(frames * FRAME_SAMPLES, level, np.float32)
        )
    lines = [json.dumps({"file": f"{number}.mp4"}) for number in range(len(levels))]
    (folder / "clips.jsonl").write_text("\n".join(lines), encoding="utf-8")


def test_every_clip_is_judged_with_its_own_sound_and_with_every_others(tmp_path: Path) -> None:
    write_clips(tmp_path, [0.2, 0.5, 0.9])
    clips = read_clips(tmp_path)
    assert [len(shown.crops) for shown in clips] == [10, 10, 10]
    own, others = own_and_others(BrightIsLoud(), clips)
    assert (len(own), len(others)) == (3, 6)
    assert min(own) > 0.95 > 0.75 > max(others)


def test_clips_that_are_all_margin_are_passed_over(tmp_path: Path) -> None:
    write_clips(tmp_path, [0.5], frames=2 * MARGIN_FRAMES)
    assert read_clips(tmp_path) == []


def test_a_folder_that_was_not_prepared_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"expected clips\.jsonl"):
        read_clips(tmp_path)
    assert main(["--clips", str(tmp_path), "--sync", "none"]) == 1
    assert "expected a judge" in capsys.readouterr().err
