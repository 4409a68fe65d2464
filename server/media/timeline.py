"""The sound of one session as one unbroken row of samples.

Packets come late, twice or never, and a microphone may stop for good. Media
time may not slip because of it: whatever is missing becomes silence, whatever
comes after its place was taken is dropped. The clock is the peer's own: while
packets arrive, only their timestamps move media time, so the peer's drift is
followed and never corrected by cutting or stretching sound. Timestamps that run away from the
clock, or sound that comes faster than it lasts, would make work and memory without end: there the
rest is dropped.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from server.media.media_clock import SOUND_TICKS, TICK_HZ, TICKS_PER_MS

I16 = NDArray[np.int16]

STARVED_TICKS = 120 * TICKS_PER_MS  # silence begins when nothing came for this long
LATE_TICKS = 300 * TICKS_PER_MS  # packets late for this long: the peer paused its clock
CATCHING_UP_TICKS = 40 * TICKS_PER_MS  # less late by this much: they come in a burst
NEARLY_TICKS = 100 * TICKS_PER_MS  # packets late by less: the sound is on its way again
HELD_TICKS = 60 * TICKS_PER_MS  # no silence after such a packet, or it would take the next's place
STALLED_TICKS = 60 * TICKS_PER_MS  # not asked for so long: we stood still, and packets wait unread
LONGEST_STALL_TICKS = TICK_HZ  # after which silence comes, whoever stood still
JUMP_TICKS = 2 * TICK_HZ  # a leap ahead of this size is a new clock, not a gap
AHEAD_TICKS = 2 * TICK_HZ  # media time may gain as much on the clock at once
GAIN_PART = 100  # and 1 % for good: no microphone is faster, a client that lies about time is


class SpeechTimeline:
    """Turns packets into contiguous 48 kHz mono samples.

    Attributes:
        position: media time of the next sample to come, in ticks.
        silence_ticks: how much silence stood in for missing sound so far.
        dropped_ticks: how much sound came too late to be placed.
    """

    def __init__(self, now: int, lead: int = 0) -> None:
        """
        Args:
            now: when media time begins, in ticks.
            lead: silence before the first packet. It shifts where packets end on media time:
                a hop that is due shortly after a packet's end need not wait for the next.
        """
        self.position = 0
        self._lead = lead
        self.silence_ticks = 0
        self.dropped_ticks = 0
        self._offset: int | None = None  # media time = packet pts + offset
        self._arrival = now
        self._arrival_position = 0
        self._late_since: tuple[int, int] | None = None  # when, and the gap then
        self._nearly: int | None = None  # when a packet came nearly in time, or waits unread
        self._asked = now  # for silence, last
        self._gained = 0  # by media time on the clock
        self._gained_at = now

    def push(self, pts: int, samples: I16, now: int) -> I16:
        """The samples that one packet adds, with silence before them where some are missing.

        Args:
            pts: the packet's own timestamp at 48 kHz, from any origin.
            samples: int16 [n].
            now: when it arrived, in ticks.
        """
        lead = self._begin()
        if self._offset is None:
            self._offset = self.position - pts
        gap = pts + self._offset - self.position
        room = self._room(now)
        if gap > min(JUMP_TICKS, room) or self._paused(gap, now):
            self._offset = self.position - pts
            gap = 0
        if gap < 0:
            if gap > -NEARLY_TICKS:
                self._nearly = now
            self.dropped_ticks += min(-gap, len(samples))
            samples = samples[-gap:]
        elif gap > 0:
            self.silence_ticks += gap
            samples = np.concatenate([np.zeros(gap, np.int16), samples])
        if len(samples) > room:
            self.dropped_ticks += len(samples) - room
            samples = samples[:room]
        if len(samples):  # what is dropped does not keep time: silence does
            self._gained += len(samples)
            self.position += len(samples)
            self._arrival = now
            self._arrival_position = self.position
        return np.concatenate([lead, samples]) if len(lead) else samples

    def restart(self) -> None:
        """The packets to come have a new clock: the next one follows what is there already."""
        self._offset = None
        self._late_since = None

    def fill(self, now: int) -> I16:
        """Silence in place of a microphone that is silent itself, in whole 20 ms blocks.

        To be asked for every 20 ms. After a longer pause the process had no time, and what came
        meanwhile has not been read yet.
        """
        waited = now - self._arrival
        stalled = now - self._asked > STALLED_TICKS and waited <= LONGEST_STALL_TICKS
        if stalled and self._offset is not None:
            self._nearly = now
        self._asked = now
        if self._offset is not None and waited <= STARVED_TICKS:
            return np.zeros(0, np.int16)
        if self._nearly is not None and now - self._nearly <= HELD_TICKS:
            return np.zeros(0, np.int16)
        lead = self._begin()
        missing = self._arrival_position + waited - self.position
        count = max(missing, 0) // SOUND_TICKS * SOUND_TICKS
        self._gained += count
        self.position += count
        self.silence_ticks += count
        return np.zeros(len(lead) + count, np.int16)

    def _room(self, now: int) -> int:
        """Ticks that media time may be moved on by."""
        passed = now - self._gained_at
        self._gained_at = now
        self._gained = max(self._gained - passed - passed // GAIN_PART, 0)
        return max(AHEAD_TICKS - self._gained, 0)

    def _begin(self) -> I16:
        """The lead, once."""
        lead, self._lead = self._lead, 0
        self.position += lead
        self._arrival_position += lead
        return np.zeros(lead, np.int16)

    def _paused(self, gap: int, now: int) -> bool:
        """Whether packets have been equally late for so long that the peer's clock had stopped.

        Packets that were held up on their way come in a burst and are ever less late: they
        catch up by themselves, and their places are taken.
        """
        if gap >= 0:
            self._late_since = None
            return False
        since = self._late_since
        if since is None or gap - since[1] > CATCHING_UP_TICKS:
            self._late_since = (now, gap)
            return False
        if now - since[0] < LATE_TICKS:
            return False
        self._late_since = None
        return True


CAMERA_WINDOW = 128  # about 5 s of pictures


class CameraClock:
    """Puts a camera's pictures on the media time of the sound.

    The two tracks have clocks of their own; what ties them is when they
    arrive. The least delayed of the last pictures gives the offset, so that
    network jitter does not move a picture in time.
    """

    def __init__(self) -> None:
        self._offsets: deque[int] = deque(maxlen=CAMERA_WINDOW)

    def place(self, pts: int, arrival: int) -> int:
        """Media time of a picture.

        Args:
            pts: its own timestamp in ticks, from any origin.
            arrival: media time of the sound that arrives with it.
        """
        offset = arrival - pts
        if self._offsets and abs(offset - self._offsets[-1]) > JUMP_TICKS:
            self._offsets.clear()
        self._offsets.append(offset)
        return pts + min(self._offsets)
