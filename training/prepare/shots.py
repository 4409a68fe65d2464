"""Where one shot of a video ends and the next begins.

PySceneDetect's adaptive detector, which LatentSync's data went through too (there with the same
threshold of 2: a frame differs from the one before by twice as much as its neighbours do).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Final

from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

from engine.media import FPS
from training.prepare.pictures import GridFrame

ADAPTIVE_THRESHOLD: Final = 2.0
SHORTEST_FRAMES: Final = 15  # of a shot
_LOOKED_AT: Final = 256  # pixels of the longer side


def find_shots(frames: Iterable[GridFrame]) -> list[range]:
    """The shots of a video: ranges of frames, one after another."""
    detector = AdaptiveDetector(
        adaptive_threshold=ADAPTIVE_THRESHOLD, min_scene_len=SHORTEST_FRAMES
    )
    cuts: list[int] = []
    stop = 0
    for frame in frames:
        found = detector.process_frame(
            FrameTimecode(frame.index, float(FPS)), frame.small_bgr(_LOOKED_AT)
        )
        cuts += [cut.frame_num for cut in found]
        stop = frame.index + 1
    if stop == 0:
        return []
    cuts += [cut.frame_num for cut in detector.post_process(FrameTimecode(stop - 1, float(FPS)))]
    edges = [0, *sorted(set(cuts) - {0}), stop]
    return [range(first, end) for first, end in itertools.pairwise(edges)]
