"""When each block of sound and each picture leaves: one media clock for both.

A block with media time `pts` is released at `offset + pts`, and so is the
picture of the same pts: the receiver sees them as they belong together. The
offset follows the 95th percentile of how late the engine's hops are ready,
upwards in steps that a receiver's buffer bridges, downwards by at most 5 ms a
second. Sound is never stretched or skipped; a picture that comes too late is
dropped and its place reported, so that the caller can show the source frame
instead. Too late is reckoned from when its sound really left: the offset may
have risen since.

After an interrupt every place that no newer picture fills is at rest, at its
moment and for as long as the engine takes to answer.

Pure: time comes in as an argument, in ticks of 48 kHz.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from server.media.media_clock import FRAME_TICKS, SOUND_TICKS, TICK_HZ, TICKS_PER_MS
from server.media.timeline import I16

P = TypeVar("P")

LATE_TICKS = 20 * TICKS_PER_MS  # a picture may leave this long after its sound
# A picture half way between speech and rest follows an interrupt only where it leaves this soon:
# the one after it, at rest, is then shown within two frames of the interrupt, encoder and network
# included.
HALF_WAY_TICKS = FRAME_TICKS // 2
MARGIN_TICKS = 5 * TICKS_PER_MS  # kept above the percentile
RISE_TICKS = 60 * TICKS_PER_MS  # at once,
RISE_EVERY_TICKS = 300 * TICKS_PER_MS  # and again after this
TICKS_PER_LOWERING = TICK_HZ // (5 * TICKS_PER_MS)  # one tick less in 200: 5 ms a second
WINDOW_FRAMES = 256  # about 10 s
WINDOW_BLOCKS = 512  # about 10 s of sound
RETARGET_BLOCKS = 16  # sound's percentile is looked at this often
SOUND_BOUND_TICKS = 3 * TICK_HZ  # more sound than this waiting is a broken clock
VIDEO_BOUND_FRAMES = 64
FADE_TICKS = 5 * TICKS_PER_MS
LEFT_BLOCKS = 64  # blocks whose release is remembered: longer than any picture is waited for


@dataclass(frozen=True, slots=True)
class SoundRelease:
    """20 ms of sound that is due: int16 [960] from media time `pts`."""

    pts: int
    samples: I16


@dataclass(frozen=True, slots=True)
class PlayoutFrame(Generic[P]):
    """A picture with its media time.

    Attributes:
        ready: when the engine had it, in wall ticks.
    """

    pts: int
    generation: int
    synced: float
    picture: P
    ready: int = 0


@dataclass(frozen=True, slots=True)
class VideoRelease(Generic[P]):
    """A picture that is due.

    Attributes:
        fading: the speaking picture before it, half of which is still to be seen; mostly None.
    """

    frame: PlayoutFrame[P]
    fading: PlayoutFrame[P] | None = None


@dataclass(frozen=True, slots=True)
class VideoRest(Generic[P]):
    """A place that an interrupt has left empty, where the source itself is to be shown.

    Attributes:
        fading: as of `VideoRelease`.
    """

    pts: int
    fading: PlayoutFrame[P] | None = None


@dataclass(frozen=True, slots=True)
class VideoMissing:
    """A picture that was due and is not there."""

    pts: int


Release = SoundRelease | VideoRelease[P] | VideoRest[P] | VideoMissing


class DelayControl:
    """The playout offset: p95 of the observed readiness, up in steps, slowly down.

    All values are wall ticks of media time 0, so that a peer whose clock
    drifts against ours simply moves them.
    """

    def __init__(self, initial: int, ceiling: int, hop_frames: int = 4) -> None:
        """
        Args:
            initial: offset to start from.
            hop_frames: of the engine's hops, until `change_hop`.
            ceiling: the offset never rises by more than this above the sound's quickest
                arrival: after an outage what is late is dropped, not waited for.
        """
        self._offset = initial
        self._ceiling = ceiling
        self._hop_frames = hop_frames
        self._hops: deque[int] = deque(maxlen=WINDOW_FRAMES // hop_frames)
        self._blocks: deque[int] = deque(maxlen=WINDOW_BLOCKS)
        self._blocks_seen = 0
        # Blocks (number, when there) that none after them was quicker than: the first is quickest.
        self._quickest: deque[tuple[int, int]] = deque()
        self._sound: int | None = None  # 95th percentile of the blocks
        self._seen: int | None = None
        self._raised_at: int | None = None
        self._target: int | None = None

    @property
    def offset(self) -> int:
        return self._offset

    @property
    def sound_base(self) -> int | None:
        """Wall tick at which the sound of media time 0 would have come without any jitter."""
        return self._quickest[0][1] if self._quickest else None

    def observe_hop(self, ready: int) -> None:
        """Notes when a hop was ready: wall minus the media time of its first picture."""
        self._hops.append(ready)
        self._retarget()

    def observe_sound(self, ready: int) -> None:
        """Notes when a block of sound was there: wall minus its media time."""
        self._blocks.append(ready)
        while self._quickest and self._quickest[-1][1] >= ready:
            self._quickest.pop()
        self._quickest.append((self._blocks_seen, ready))
        if self._quickest[0][0] <= self._blocks_seen - WINDOW_BLOCKS:
            self._quickest.popleft()
        self._blocks_seen += 1
        if self._blocks_seen < RETARGET_BLOCKS or self._blocks_seen % RETARGET_BLOCKS == 0:
            self._sound = _percentile_95(self._blocks)
            self._retarget()

    def advance(self, now: int) -> int:
        """The offset at `now`: one step higher where more is needed, lower where less would do."""
        if self._seen is None or self._target is None or self._target >= self._offset:
            self._seen = now
            self._rise(now)
        else:
            step = (now - self._seen) // TICKS_PER_LOWERING
            self._seen += step * TICKS_PER_LOWERING
            self._offset = max(self._target, self._offset - step)
        return self._offset

    def _rise(self, now: int) -> None:
        """Takes a step up to the target, some time after the step before.

        By what the offset rises the sound pauses: a receiver's buffer bridges a step, and what is
        late meanwhile are pictures.
        """
        if self._target is None or self._target <= self._offset:
            return
        if self._raised_at is None or now - self._raised_at >= RISE_EVERY_TICKS:
            self._offset = min(self._target, self._offset + RISE_TICKS)
            self._raised_at = now

    def change_hop(self, frames: int) -> None:
        """Hears that hops are of another length from the next one on.

        The first picture of a longer hop will come later by what it is longer, so the offset rises
        before it does; after shorter ones it falls as it always does. What was observed counts on,
        moved by as much: of the first few hops alone, any two that waited would be the percentile.
        """
        longer = (frames - self._hop_frames) * FRAME_TICKS
        self._hop_frames = frames
        self._hops = deque((ready + longer for ready in self._hops), WINDOW_FRAMES // frames)
        if longer > 0:
            base = self.sound_base
            raised = self._offset + longer
            self._offset = max(
                self._offset, raised if base is None else min(raised, base + self._ceiling)
            )
            self._target = self._offset

    def forget_hops(self) -> None:
        """Drops what was learnt of an engine that is gone."""
        self._hops.clear()

    def _retarget(self) -> None:
        hops = _percentile_95(self._hops)
        if hops is None and self._target is None:
            return  # nothing is known of the engine yet: keep the initial delay
        known = [value for value in (hops, self._sound) if value is not None]
        if not known:
            return
        target = max(known) + MARGIN_TICKS
        base = self.sound_base
        if base is not None:
            target = min(target, base + self._ceiling)
            # Sound that comes earlier than ever lowers the base: the delay goes with it at once,
            # or more would wait than is kept, and what is kept would never be due.
            self._offset = min(self._offset, base + self._ceiling)
        self._target = target


def _percentile_95(values: deque[int]) -> int | None:
    """The 95th percentile; of few values not the worst, which is often the very first."""
    if len(values) < 2:
        return None
    return sorted(values)[(len(values) - 1) * 95 // 100]


class Playout(Generic[P]):
    """Sound and pictures of one session, waiting for their moment.

    Attributes:
        late_frames: pictures that came too late and were dropped.
        missing_frames: places that no picture of the engine filled in time.
        stalled_frames: due pictures that gave way to a newer due one.
    """

    def __init__(self, delay: DelayControl) -> None:
        self.delay = delay
        self.late_frames = 0
        self.missing_frames = 0
        self.stalled_frames = 0
        self.generation = 0
        self._sound: I16 = np.zeros(0, np.int16)
        self._sound_pts = 0
        self._left: dict[int, int] = {}  # media time -> when that block of sound left
        self._video: deque[PlayoutFrame[P]] = deque()
        self._next_pts = 0
        self._rests = False  # since an interrupt, until the engine has answered it
        self._shown: PlayoutFrame[P] | None = None  # if the engine made the last picture
        self._fading: PlayoutFrame[P] | None = None

    @property
    def next_pts(self) -> int:
        """Media time of the next picture that is to leave."""
        return self._next_pts

    @property
    def sound_end(self) -> int:
        """Media time of the next sample that is to come."""
        return self._sound_pts + len(self._sound)

    @property
    def waiting_frames(self) -> int:
        return len(self._video)

    @property
    def waiting_sound_ticks(self) -> int:
        return len(self._sound)

    def push_sound(self, samples: I16, now: int) -> None:
        """Appends sound; its media time follows from what came before."""
        end = self._sound_pts + len(self._sound) + len(samples)
        self._sound = np.concatenate([self._sound, samples])[-SOUND_BOUND_TICKS:]
        self._sound_pts = end - len(self._sound)
        self.delay.observe_sound(now - (end - SOUND_TICKS))

    def push_hop(self, frames: list[PlayoutFrame[P]], now: int) -> None:
        """Adds the pictures of one hop, in order, as they became ready together."""
        frames = [frame for frame in frames if frame.generation >= self.generation]
        if not frames:
            return
        self.delay.observe_hop(now - frames[0].pts)
        self.delay.advance(now)
        for frame in frames:
            if frame.pts < self._next_pts or now > self._moment(frame.pts) + LATE_TICKS:
                self.late_frames += 1
            else:
                self._insert(frame)
        while len(self._video) > VIDEO_BOUND_FRAMES:
            self._video.popleft()
            self.late_frames += 1

    def poll(self, now: int) -> list[Release[P]]:
        """What is due at `now`, sound first."""
        offset = self.delay.advance(now)
        due: list[Release[P]] = []
        while len(self._sound) >= SOUND_TICKS and offset + self._sound_pts <= now:
            due.append(SoundRelease(self._sound_pts, self._sound[:SOUND_TICKS]))
            self._left[self._sound_pts] = now
            if len(self._left) > LEFT_BLOCKS:
                del self._left[next(iter(self._left))]
            self._sound = self._sound[SOUND_TICKS:]
            self._sound_pts += SOUND_TICKS
        due.extend(self._due_video(now))
        return due

    def next_due(self) -> int:
        """Wall tick of the next release, as far as is known."""
        video = self._moment(self._next_pts) + (0 if self._rests else LATE_TICKS)
        if self._video:
            video = min(video, self._moment(self._video[0].pts))
        if len(self._sound) < SOUND_TICKS:
            return video
        return min(video, self.delay.offset + self._sound_pts)

    def interrupt(self, generation: int, now: int) -> None:
        """Drops every waiting picture of an older generation and silences waiting sound."""
        self.generation = generation
        self._rests = True
        waits = bool(self._video) and self._video[0].pts == self._next_pts
        last = self._video[0] if waits else self._shown
        half_way = self._moment(self._next_pts) - now <= HALF_WAY_TICKS
        self._fading = last if half_way and last is not None and last.synced > 0 else None
        self._video = deque(frame for frame in self._video if frame.generation >= generation)
        sound = self._sound.copy()
        fade = min(FADE_TICKS, len(sound))
        ramp = np.linspace(1.0, 0.0, fade, dtype=np.float32)
        sound[:fade] = (sound[:fade] * ramp).astype(np.int16)
        sound[fade:] = 0
        self._sound = sound

    def skip_fading(self) -> None:
        """Hears that rest has been shown already, in a place before the next one."""
        self._fading = None

    def _insert(self, frame: PlayoutFrame[P]) -> None:
        """Keeps the queue in order; a newer picture of the same place replaces the older."""
        while self._video and self._video[-1].pts >= frame.pts:
            self._video.pop()
        self._video.append(frame)

    def _moment(self, pts: int) -> int:
        """Wall tick at which the sound of a media time left or, as far as is known, will leave."""
        return self._left.get(pts, self.delay.offset + pts)

    def _due_video(self, now: int) -> list[Release[P]]:
        due: list[Release[P]] = []
        newest: PlayoutFrame[P] | None = None
        while self._video and self._moment(self._video[0].pts) <= now:
            frame = self._video.popleft()
            if now > self._left.get(frame.pts, now) + LATE_TICKS:
                self.late_frames += 1
                continue
            if newest is not None:
                self.stalled_frames += 1
            newest = frame
        if newest is not None:
            skipped = max(newest.pts - self._next_pts, 0) // FRAME_TICKS
            if self._rests:
                self.stalled_frames += skipped
            else:
                self.missing_frames += skipped
            self._next_pts = newest.pts + FRAME_TICKS
            due.append(VideoRelease(newest, self._fading))
            self._shown, self._fading, self._rests = newest, None, False
        if self._rests:
            return [*due, *self._due_rest(now)]
        missing: VideoMissing | None = None
        while self._moment(self._next_pts) + LATE_TICKS <= now:
            self.missing_frames += 1
            missing = VideoMissing(self._next_pts)
            self._next_pts += FRAME_TICKS
        if missing is not None:
            due.append(missing)
            self._shown = None
        return due

    def _due_rest(self, now: int) -> list[VideoRest[P]]:
        """The newest place at rest that is due, if any."""
        rest: VideoRest[P] | None = None
        while self._moment(self._next_pts) <= now:
            if rest is not None:
                self.stalled_frames += 1
            rest = VideoRest(self._next_pts, self._fading)
            self._shown = self._fading = None
            self._next_pts += FRAME_TICKS
        return [] if rest is None else [rest]
