"""Renders the bundled avatars while they speak, as further shards of the training corpus.

    python -m training.avatar_clips --speech .scratch/corpus/speech --out .scratch/corpus/faces

The bundled model knows the bundled avatars: they are no measure of it, and no
test split holds them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from training.faces.avatars import Cast, cast
from training.faces.camera import Camera
from training.faces.corpus import ClipEntry, Pictures, SpeechShelf, joined, render_pictures
from training.faces.pose import Pose
from training.faces.renderer import CropRenderer
from training.faces.tracks import alignment_jitter, head_motion, smooth_walk

FIRST_SHARD: Final = 90
FRAMES: Final = 48
AVATAR_IDENTITY: Final = 2_000_000  # identity numbers of avatars start here


def idle_poses(frames: int, rng: np.random.Generator) -> list[Pose]:
    """Small head motion as in the avatars' loops."""
    yaw, pitch = (smooth_walk(frames, 18, rng) for _ in range(2))
    return [
        Pose(float(0.030 * yaw[i]), float(0.018 * pitch[i] - 0.012), 0.0, 0.0, 0.0, 1.0)
        for i in range(frames)
    ]


def write_avatar_shard(
    folder: Path, number: int, member: Cast, clips: int, shelf: SpeechShelf
) -> None:
    """One shard: `clips` clips of one avatar, two thirds in idle motion."""
    rng = np.random.default_rng((77, number))
    renderer = CropRenderer.build(member.identity, member.light)
    rendered: list[Pictures] = []
    entries: list[ClipEntry] = []
    first = 0
    for index in range(clips):
        line = shelf.draw("train", rng)
        mouth = line.mouth[:FRAMES]
        frames = len(mouth)
        lively = index % 3 == 2
        poses = head_motion(frames, 1.0, rng) if lively else idle_poses(frames, rng)
        jitter = alignment_jitter(frames, 0.8 if lively else 0.4, rng)
        rendered.append(render_pictures(renderer, mouth, poses, jitter, Camera.plain(), rng))
        entries.append(
            ClipEntry(
                first,
                frames,
                AVATAR_IDENTITY + number,
                "train",
                line.speech,
                line.start_frame,
            )
        )
        first += frames
    joined(rendered).save(folder, f"{number:02d}", entries)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=15, help="an avatar")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    shelf = SpeechShelf(args.speech)
    for index, member in enumerate(cast()):
        write_avatar_shard(args.out, FIRST_SHARD + index, member, args.clips, shelf)


if __name__ == "__main__":
    main()
