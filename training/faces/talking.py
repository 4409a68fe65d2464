"""Renders an avatar that says a clip of the speech corpus: the truth to judge a model by.

    python -m training.faces.talking --speech DIR/SPLIT --clip 3 --avatar anna --out talk.mp4

Beside the video it writes the sound (`.wav`, 16 kHz) and the mouth and alignment points
of every frame (`.npz`: mouth [frames, 7], points [frames, 3, 2]).
"""

from __future__ import annotations

import argparse
import json
import wave
from pathlib import Path

import cv2
import numpy as np

from engine.media import F32, FRAME_SAMPLES, SAMPLE_RATE_HZ, U8
from training.faces.avatars import FRAMES, Cast, cast, idle_motion, write_clip
from training.faces.portrait import Framing, PortraitRenderer


def render_talking(member: Cast, mouth: F32) -> tuple[list[U8], F32]:
    """Pictures of an avatar whose idle motion goes on while its mouth follows `mouth` [n, 7].

    Returns:
        n pictures, uint8 RGB, and their alignment points, float32 [n, 3, 2].
    """
    renderer = PortraitRenderer.build(member.identity, member.light, Framing())
    motion = idle_motion(member)
    pictures, points = [], []
    for index, row in enumerate(mouth):
        pose, gaze, breath = motion[index % FRAMES]
        picture, three = renderer.render(row, pose, gaze, 0.5 * breath)
        pictures.append(picture)
        points.append(three)
    return pictures, np.stack(points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--speech", type=Path, required=True, help="a split's folder")
    parser.add_argument("--clip", type=int, default=0)
    parser.add_argument("--avatar", default="anna")
    parser.add_argument("--frames", type=int, default=250, help="at most so many")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    members = {member.name: member for member in cast()}
    clips = json.loads((arguments.speech / "clips.json").read_text(encoding="utf-8"))
    clip = clips[arguments.clip]
    first, count = clip["start"], min(clip["frames"], arguments.frames)
    mouth = np.load(arguments.speech / "mouth.npy", mmap_mode="r")[first : first + count]
    samples = np.load(arguments.speech / "audio.npy", mmap_mode="r")
    sound = np.asarray(samples[first * FRAME_SAMPLES : (first + count) * FRAME_SAMPLES], "<i2")
    pictures, points = render_talking(members[arguments.avatar], np.asarray(mouth, np.float32))
    write_clip(arguments.out, pictures)
    np.savez_compressed(arguments.out.with_suffix(".npz"), mouth=mouth, points=points)
    with wave.open(str(arguments.out.with_suffix(".wav")), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(sound.tobytes())


if __name__ == "__main__":
    main()
