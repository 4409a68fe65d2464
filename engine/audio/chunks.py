"""Which encoder positions drive which video frame, in a whole recording.

LatentSync's rules for rendering files; a stream has its own windows
(`engine.windows`), which agree wherever a recording's ends are far.
"""

from __future__ import annotations

from engine.spec import AUDIO_STEPS, AUDIO_STEPS_AHEAD

STEP_HZ = 50


def chunk_positions(frame: int, count: int, fps: float = 25) -> list[int]:
    """The ten positions of one video frame, clamped to a recording of `count` positions."""
    centre = int(frame * STEP_HZ / fps)
    first = centre - (AUDIO_STEPS - AUDIO_STEPS_AHEAD)
    return [min(max(first + step, 0), count - 1) for step in range(AUDIO_STEPS)]


def chunk_count(count: int, fps: float = 25) -> int:
    """Video frames that a recording of `count` positions drives, the repeated tail included."""
    frame = 0
    while int(frame * (STEP_HZ / fps)) <= count:
        frame += 1
    return frame + 1


def looped_frames(video_frames: int, chunks: int) -> list[int]:
    """The source frame of each chunk: forwards, backwards, forwards, end frames repeated."""
    there_and_back = [*range(video_frames), *reversed(range(video_frames))]
    return [there_and_back[index % len(there_and_back)] for index in range(chunks)]
