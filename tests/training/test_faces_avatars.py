"""The bundled avatars loop without a seam and say where their faces are."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from training.faces.avatars import FRAMES, Cast, cast, idle_motion

BUNDLED = Path(__file__).parents[2] / "engine" / "bundled" / "avatars"
NAMES = ("anna", "marco", "mei", "amara", "henrik")


def test_every_member_of_the_cast_is_bundled() -> None:
    assert sorted(path.name for path in BUNDLED.iterdir() if path.is_dir()) == sorted(NAMES)
    assert tuple(member.name for member in cast()) == NAMES


@pytest.mark.parametrize("member", cast(), ids=lambda member: member.name)
def test_idle_motion_wraps_as_smoothly_as_it_runs(member: Cast) -> None:
    motion = idle_motion(member)
    track = np.asarray([(p.yaw, p.pitch, p.roll, p.dx, p.dy, b) for p, _, b in motion])
    steps = np.abs(np.diff(track, axis=0))
    seam = np.abs(track[0] - track[-1])
    assert len(motion) == FRAMES
    assert (seam <= steps.max(axis=0) + 1e-6).all()
    assert sum(gaze.blink == 1.0 for _, gaze, _ in motion) == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_avatar_describes_its_clip(name: str) -> None:
    folder = BUNDLED / name
    description = json.loads((folder / "avatar.json").read_text(encoding="utf-8"))
    points = np.asarray(description["points"])
    assert points.shape == (description["frames"], 3, 2)
    assert (points > 0).all() and (points[..., 0] < description["width"]).all()
    assert (points[:, 0, 0] < points[:, 2, 0]).all() and (points[:, 2, 0] < points[:, 1, 0]).all()
    with av.open(str(folder / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (description["width"], description["height"])
        assert stream.frames == description["frames"]
        assert stream.average_rate == 25
    assert (folder / "clip.mp4").stat().st_size < 600_000
