"""Do the mouth and the sound of a video belong together? By our small sync expert.

    python -m benchmarks.sync_video talk.mp4
    python -m benchmarks.sync_video result.mp4 --json

The face is found and followed as in a call; frames in which its mouth cannot be seen are left
out. See `docs/quality.md` for what the figures are worth: the expert has seen rendered faces
and synthetic voices only.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from engine.errors import LipwireError
from engine.face.detect import open_detector
from engine.face.track import FaceTracker
from engine.media import F32
from server.media.media_files import SoundFile, VideoFile
from training.sync_clips import mouth_spans, video_score
from training.sync_network import load_expert
from training.sync_score import REACH


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the score; 1 where there is none."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sync_video", description="Judge the sync of a video."
    )
    parser.add_argument("video", type=Path, help="with sound")
    parser.add_argument("--expert", type=Path, help="folder of another sync expert (ours)")
    parser.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        expert = load_expert(options.expert) if options.expert else load_expert()
        spans = mouth_spans(VideoFile(options.video).frames(), FaceTracker(open_detector()))
        found = video_score(expert, spans, whole_sound(options.video))
    except LipwireError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if found is None:
        sys.stderr.write(f"{options.video}: no mouth is seen for {expert.frames} frames\n")
        return 1
    if options.json:
        sys.stdout.write(json.dumps(found.to_dict()) + "\n")
        return 0
    sys.stdout.write(
        f"pictures {found.offset_frames:+d} frames late (of -{REACH} .. {REACH}), "
        f"confidence {found.confidence:.3f}, distance {found.distance:.3f} there "
        f"and {found.here:.3f} as it is; {found.windows} windows\n"
    )
    return 0


def whole_sound(path: Path) -> F32:
    """A file's sound at 16 kHz.

    Raises:
        MediaError: it has none.
    """
    return np.concatenate([speech for speech, _ in SoundFile(path).pieces()])


if __name__ == "__main__":
    sys.exit(main())
