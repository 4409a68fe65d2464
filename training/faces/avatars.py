"""Makes the bundled avatars: idle clips of synthetic people.

    python -m training.faces.avatars [--out engine/bundled/avatars] [--only NAME]

Each avatar is a folder with `clip.mp4` (H.264, 512 x 512, 25 fps, 200 frames that
wrap without a seam: blinks, breath, small head motion, a closed resting mouth) and
`avatar.json` with the three alignment points of every frame.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np

from engine.media import F32, FPS, U8
from training.faces.eyes import Gaze
from training.faces.identity import Identity
from training.faces.light import Light
from training.faces.people import amara, anna, henrik, marco, mei
from training.faces.portrait import FRAME_PIXELS, Framing, PortraitRenderer
from training.faces.pose import Pose
from training.mouth import rest_mouth

log = logging.getLogger(__name__)

FRAMES: Final = 200  # 8 s
LICENCE: Final = "CC0-1.0; drawn by training.faces, no real person"
_BLINK: Final = (0.35, 0.9, 1.0, 0.75, 0.4, 0.12)  # lids over six frames


@dataclass(frozen=True, slots=True)
class Cast:
    """One avatar: who it is and in which light.

    Attributes:
        seed: of the head's motion.
        blinks: frames at which a blink begins.
    """

    name: str
    title: str
    identity: Identity
    light: Light
    seed: int
    blinks: tuple[int, ...]


def cast() -> list[Cast]:
    """The bundled avatars."""
    return [
        Cast("anna", "Anna", *anna(), 1, (38, 121, 172)),
        Cast("marco", "Marco", *marco(), 2, (25, 96, 158)),
        Cast("mei", "Mei", *mei(), 3, (52, 110, 187)),
        Cast("amara", "Amara", *amara(), 4, (31, 88, 165)),
        Cast("henrik", "Henrik", *henrik(), 5, (44, 103, 149)),
    ]


def loop_walk(rng: np.random.Generator, lowest: int, highest: int) -> F32:
    """float32 [FRAMES] of unit variance whose end meets its start, from a few harmonics."""
    phase = 2 * np.pi * np.arange(FRAMES) / FRAMES
    total = np.zeros(FRAMES)
    for k in range(lowest, highest + 1):
        total += np.cos(k * phase + rng.uniform(0, 2 * np.pi)) / k * rng.uniform(0.5, 1.0)
    return np.asarray(total / total.std(), np.float32)


def idle_motion(member: Cast) -> list[tuple[Pose, Gaze, float]]:
    """Pose, gaze and breath of each frame of the loop."""
    rng = np.random.default_rng(member.seed)
    yaw, pitch, roll = (loop_walk(rng, 1, 4) for _ in range(3))
    dx, dy = loop_walk(rng, 1, 3), loop_walk(rng, 1, 3)
    breath = 0.5 - 0.5 * np.cos(2 * np.pi * 2 * np.arange(FRAMES) / FRAMES)
    lids = np.zeros(FRAMES)
    for start in member.blinks:
        for i, value in enumerate(_BLINK):
            lids[(start + i) % FRAMES] = value
    glance = np.clip(loop_walk(rng, 3, 7), -1.5, 1.5)
    motion = []
    for i in range(FRAMES):
        pose = Pose(
            float(0.030 * yaw[i]),
            float(0.018 * pitch[i] - 0.012),
            float(0.010 * roll[i]),
            float(0.55 * dx[i]),
            float(0.35 * dy[i] - 0.25 * breath[i]),
        )
        # Eyes hold the viewer: they turn against the head.
        gaze = Gaze(float(-0.9 * yaw[i] * 0.30 + 0.06 * glance[i]), float(-0.3 * pitch[i] * 0.2))
        motion.append((pose, dataclasses.replace(gaze, blink=float(lids[i])), float(breath[i])))
    return motion


def render_idle(member: Cast) -> tuple[list[U8], F32]:
    """The loop's pictures and their points, float32 [FRAMES, 3, 2]."""
    renderer = PortraitRenderer.build(member.identity, member.light, Framing())
    mouth = rest_mouth(1)[0]
    pictures, points = [], []
    for pose, gaze, breath in idle_motion(member):
        picture, three = renderer.render(mouth, pose, gaze, 0.5 * breath)
        pictures.append(picture)
        points.append(three)
    return pictures, np.stack(points)


def write_clip(path: Path, pictures: list[U8], crf: int = 19) -> None:
    """Encode `pictures` as H.264, yuv420p, 25 fps, limited-range BT.601."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        options = {"crf": str(crf), "preset": "veryslow", "tune": "stillimage"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height = pictures[0].shape[1], pictures[0].shape[0]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for index, picture in enumerate(pictures):
            i420 = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), np.uint8)
            frame = av.VideoFrame.from_ndarray(i420, format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_avatar(folder: Path, member: Cast) -> None:
    """Render and write `folder`/NAME/{clip.mp4, avatar.json}."""
    pictures, points = render_idle(member)
    target = folder / member.name
    target.mkdir(parents=True, exist_ok=True)
    write_clip(target / "clip.mp4", pictures)
    description = {
        "name": member.name,
        "title": member.title,
        "frames": len(pictures),
        "width": FRAME_PIXELS,
        "height": FRAME_PIXELS,
        "loop": "wrap",
        "reference_frame": 0,
        "licence": LICENCE,
        "points": np.round(points, 2).tolist(),
    }
    text = json.dumps(description, separators=(",", ":"))
    (target / "avatar.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("engine/bundled/avatars"))
    parser.add_argument("--only", default=None, help="name of one avatar")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cv2.setNumThreads(1)
    for member in cast():
        if arguments.only in (None, member.name):
            write_avatar(arguments.out, member)
            size = (arguments.out / member.name / "clip.mp4").stat().st_size
            log.info("%s: %d bytes", member.name, size)


if __name__ == "__main__":
    main()
