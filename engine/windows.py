"""Which frames, positions and samples a hop reads: integers only.

A stream is cut into hops of h new frames. Hop k makes frames [k h, (k + 1) h)
and its temporal layers see the W frames that end with them: the new ones at
positions c .. W - 1, the c = W - h frames before them at 0 .. c - 1. At the
stream's start some context frames do not exist; their slots are masked out.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import StreamError
from engine.media import FRAME_SAMPLES, MEL_HOP_SAMPLES, MEL_WINDOW_SAMPLES
from engine.spec import AUDIO_STEPS_AHEAD, AudioSpec

MEL_PER_FRAME = FRAME_SAMPLES // MEL_HOP_SAMPLES  # 4
MEL_AHEAD = 2 * AUDIO_STEPS_AHEAD  # frame i's steps end before log-mel frame 4 i + 12


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """One hop.

    Attributes:
        hop_index: k, counted from `start_frame`.
        new: frames that the hop makes.
        context: frames before them that exist, at most window - hop.
        positions: positions of the new frames in the window; the context's
            are those just below.
        window: W.
    """

    hop_index: int
    new: range
    context: range
    positions: range
    window: int

    @property
    def valid(self) -> tuple[bool, ...]:
        """Which of the window - hop context slots hold a frame, oldest first."""
        slots = self.window - len(self.new)
        return (False,) * (slots - len(self.context)) + (True,) * len(self.context)

    @property
    def context_positions(self) -> range:
        return range(self.positions.start - len(self.context), self.positions.start)


def plan_window(
    hop_index: int, hop: int, window: int, *, start_frame: int = 0, context_start: int | None = None
) -> WindowPlan:
    """The frames and positions of one hop.

    Args:
        hop_index: k >= 0.
        hop: h, new frames of every hop.
        window: W >= h.
        start_frame: the frame at which hop 0 begins.
        context_start: first frame that may serve as context: later than
            `start_frame` after the carried context was reset.

    Raises:
        StreamError: a negative hop index, or a hop that the window cannot hold.
    """
    if hop_index < 0 or not 1 <= hop <= window:
        raise StreamError(
            f"expected hop_index >= 0 and 1 <= hop <= window, got {hop_index}, {hop}, {window}"
        )
    first = start_frame + hop_index * hop
    oldest = start_frame if context_start is None else context_start
    context = range(min(max(first + hop - window, oldest), first), first)
    return WindowPlan(
        hop_index, range(first, first + hop), context, range(window - hop, window), window
    )


def mel_window(frame: int, audio: AudioSpec) -> range:
    """Log-mel frames (10 ms, frame m centred at sample 160 m) that drive a video frame.

    They end with the guard's; the tail is silence and reads none. Those before 0 read the
    silence before the stream's start.
    """
    end = MEL_PER_FRAME * frame + MEL_AHEAD + 2 * audio.guard
    return range(end - audio.sound_frames, end)


def samples_needed(frames: range, audio: AudioSpec) -> range:
    """Samples that the log-mel windows of `frames` read; may begin before 0."""
    half = MEL_WINDOW_SAMPLES // 2
    first = mel_window(frames[0], audio)[0] * MEL_HOP_SAMPLES - half
    last = mel_window(frames[-1], audio)[-1] * MEL_HOP_SAMPLES + half
    return range(first, last)


def due_sample(frames: range, audio: AudioSpec) -> int:
    """The number of samples that must have arrived before `frames` can be made."""
    return samples_needed(frames, audio).stop


def frames_of(samples: int) -> int:
    """Frames that show `samples` samples of sound, the last one perhaps in part."""
    return -(-samples // FRAME_SAMPLES)
