"""Makes the bundled avatars: idle clips of three synthetic people.

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
    """The three bundled avatars."""
    base = Identity.sample(np.random.default_rng(4))
    window = Light(
        key=(-0.45, -0.42, 0.79),
        key_colour=(1.50, 1.42, 1.32),
        fill=(0.75, -0.05, 0.66),
        fill_colour=(0.42, 0.45, 0.50),
        sky=(0.42, 0.44, 0.47),
        ground=(0.30, 0.25, 0.22),
        exposure=0.86,
        softness=0.75,
        background=((0.62, 0.60, 0.56), (0.44, 0.42, 0.39)),
    )
    anna = dataclasses.replace(
        base,
        masculine=0.05,
        age=0.06,
        skin=(0.70, 0.475, 0.365),
        redness=0.62,
        freckles=0.25,
        face_width=0.945,
        jaw_width=0.885,
        chin_y=86.2,
        chin_width=0.86,
        cheek=0.65,
        mouth_y=66.4,
        mouth_half=13.3,
        upper_lip=4.6,
        lower_lip=6.0,
        bow=0.75,
        corner_lift=0.95,
        lip=(0.50, 0.190, 0.175),
        lipstick=0.35,
        lip_gloss=0.50,
        nose_base=54.3,
        nose_half=8.3,
        nose_height=0.95,
        eye_y=31.0,
        eye_dx=18.0,
        eye_size=1.06,
        eye_tilt=0.06,
        monolid=0.0,
        brow_y=18.6,
        brow_dx=18.2,
        brow_thickness=0.95,
        brow_arch=1.0,
        iris=(0.060, 0.112, 0.120),
        hair=(0.135, 0.062, 0.028),
        hair_style="long",
        beard=0.0,
        moustache=0.0,
        clothing=(0.060, 0.115, 0.150),
        texture_seed=97 * 208 + 61,
    )
    marco = dataclasses.replace(
        anna,
        masculine=0.9,
        age=0.18,
        skin=(0.58, 0.365, 0.255),
        redness=0.5,
        freckles=0.0,
        face_width=0.985,
        jaw_width=1.0,
        chin_y=87.6,
        chin_width=1.08,
        cheek=0.35,
        mouth_y=66.9,
        mouth_half=14.0,
        upper_lip=4.1,
        lower_lip=5.4,
        bow=0.55,
        corner_lift=0.8,
        lip=(0.40, 0.180, 0.145),
        lipstick=0.0,
        lip_gloss=0.16,
        nose_half=9.2,
        nose_height=1.12,
        eye_size=0.98,
        eye_tilt=0.02,
        brow_y=19.6,
        brow_thickness=1.15,
        brow_arch=0.5,
        iris=(0.085, 0.042, 0.018),
        hair=(0.030, 0.018, 0.012),
        hair_style="short",
        beard=0.45,
        moustache=0.35,
        clothing=(0.032, 0.040, 0.058),
        texture_seed=771,
    )
    mei = dataclasses.replace(
        anna,
        skin=(0.70, 0.490, 0.365),
        freckles=0.0,
        redness=0.5,
        face_width=0.96,
        jaw_width=0.90,
        chin_y=85.8,
        chin_width=0.84,
        cheek=0.85,
        mouth_y=66.2,
        mouth_half=12.7,
        upper_lip=4.4,
        lower_lip=5.6,
        bow=0.9,
        corner_lift=0.9,
        lip=(0.52, 0.165, 0.165),
        lipstick=0.45,
        nose_half=8.6,
        nose_height=0.80,
        eye_tilt=0.10,
        monolid=0.7,
        brow_thickness=0.7,
        brow_arch=0.6,
        iris=(0.040, 0.020, 0.012),
        hair=(0.012, 0.010, 0.011),
        hair_style="bob",
        clothing=(0.55, 0.50, 0.44),
        texture_seed=97 * 31 + 5,
    )
    cool = dataclasses.replace(
        window,
        key=(0.42, -0.45, 0.79),
        background=((0.36, 0.42, 0.46), (0.22, 0.26, 0.29)),
    )
    dawn = dataclasses.replace(
        window,
        key=(0.38, -0.40, 0.83),
        background=((0.60, 0.50, 0.47), (0.46, 0.38, 0.37)),
    )
    return [
        Cast("anna", "Anna", anna, window, 1, (38, 121, 172)),
        Cast("marco", "Marco", marco, cool, 2, (25, 96, 158)),
        Cast("mei", "Mei", mei, dawn, 3, (52, 110, 187)),
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


def write_clip(path: Path, pictures: list[U8], crf: int = 21) -> None:
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
