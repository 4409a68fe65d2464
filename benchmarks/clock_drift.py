"""Hours of a call on a simulated clock: drift of media time, growth of queues, skew of lips.

    python -m benchmarks.clock_drift --hours 8 --ppm 200

The real timeline and playout of the server (`server.media.timeline`, `server.media.playout`) are
driven
with packets from a client whose clock is fast or slow, that arrive late, in bursts and with
holes, and with hops of an engine that needs its time. Time is an argument of both, so that eight
hours take seconds. Nothing is random that a seed does not fix.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.report import here
from server.media.media_clock import FRAME_TICKS, SOUND_TICKS, TICK_HZ, TICKS_PER_MS, to_ms
from server.media.playout import DelayControl, Playout, PlayoutFrame, SoundRelease, VideoRelease
from server.media.timeline import I16, SpeechTimeline

PACKET_TICKS = 2 * SOUND_TICKS  # 40 ms: one picture's sound, the largest step that pairs both
HOP_FRAMES = 4
LOOKAHEAD_TICKS = 82 * TICKS_PER_MS
INITIAL_DELAY = 300 * TICKS_PER_MS
MAX_DELAY = 800 * TICKS_PER_MS
DELAY_EVERY_TICKS = 1800 * TICK_HZ


@dataclass(frozen=True, slots=True)
class Faults:
    """What befalls the packets.

    Attributes:
        jitter_ms: mean of an exponential delay of every packet.
        burst_every_s, burst_ms: the path stands still for so long, then all comes at once.
        loss: share of packets that never come.
        compute_ms: mean of what a hop takes in the engine, with a tail.
    """

    jitter_ms: float = 8.0
    burst_every_s: float = 20.0
    burst_ms: float = 180.0
    loss: float = 0.002
    compute_ms: float = 40.0


@dataclass(frozen=True, slots=True)
class Drift:
    """What was seen of one call.

    Attributes:
        clocks_apart_ms: by how much the client's clock left the server's.
        drift_ms: by how much media time lies ahead of the client's own count of its sound.
        worst_skew_ms: between a picture's release and that of the sound of its media time.
        most_waiting_sound_ms, most_waiting_frames: the most that playout ever held.
        delays_ms: playout's delay, every half hour.
        lost_ms: sound that never came.
        silence_ms, dropped_ms: what the timeline put in for it, and left out.
        unreleased_ms: sound on the timeline that had not left at the end.
    """

    hours: float
    ppm: float
    clocks_apart_ms: float
    drift_ms: float
    worst_skew_ms: float
    most_waiting_sound_ms: float
    most_waiting_frames: int
    delays_ms: list[float]
    lost_ms: float
    silence_ms: float
    dropped_ms: float
    unreleased_ms: float
    released_frames: int
    missing_frames: int
    late_frames: int
    times_real_time: float


def arrivals(seconds: float, ppm: float, faults: Faults, seed: int) -> Iterator[tuple[int, int]]:
    """(wall tick of arrival, the client's timestamp) of each packet that comes, in order.

    A client whose clock is `ppm` fast captures a second of its sound in less than a second.
    """
    dice = random.Random(seed)
    ticks_of_wall = 1.0 / (1.0 + ppm * 1e-6)
    burst_every, burst = int(faults.burst_every_s * TICK_HZ), int(faults.burst_ms * TICKS_PER_MS)
    newest = 0
    for number in range(int(seconds * TICK_HZ / ticks_of_wall / PACKET_TICKS)):
        pts = number * PACKET_TICKS
        captured = int((pts + PACKET_TICKS) * ticks_of_wall)
        if dice.random() < faults.loss:
            continue
        arrival = captured + int(dice.expovariate(1 / (faults.jitter_ms * TICKS_PER_MS)))
        stands_still = (captured + burst_every // 2) % burst_every
        if stands_still < burst:
            arrival = max(arrival, captured - stands_still + burst)
        newest = max(newest, arrival)  # the path keeps order, as most do
        yield newest, pts


class Call:
    """One simulated call: packets and the engine's hops go in, releases are watched."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self.timeline = SpeechTimeline(0)
        self.playout: Playout[None] = Playout(DelayControl(INITIAL_DELAY, MAX_DELAY))
        self.worst_skew = 0
        self.released_sound = 0
        self.released_frames = 0
        self._faults = faults
        self._dice = random.Random(seed + 1)
        self._hops: deque[tuple[int, int]] = deque()  # when it is ready, its first frame
        self._next_hop = 0
        self._engine_free = 0
        self._sound_left: dict[int, int] = {}  # media time -> when that block of sound left

    def run_until(self, wall: int) -> None:
        """Everything that is due before `wall`, each at its own moment."""
        while True:
            ready = self._hops[0][0] if self._hops else wall
            now = min(self.playout.next_due(), ready)
            if now >= wall:
                return
            if now == ready:
                self._push_hop(*self._hops.popleft())
            self._release(now)

    def push(self, pts: int, samples: I16, now: int) -> None:
        """One packet arrives; silence stands in for what did not come before it."""
        for heard in (self.timeline.fill(now), self.timeline.push(pts, samples, now)):
            if len(heard):
                self.playout.push_sound(heard, now)
        end = (self._next_hop + HOP_FRAMES) * FRAME_TICKS + LOOKAHEAD_TICKS
        while self.timeline.position >= end:
            tail_ms = self._dice.expovariate(4 / self._faults.compute_ms)
            compute = int((0.75 * self._faults.compute_ms + tail_ms) * TICKS_PER_MS)
            self._engine_free = max(self._engine_free, now) + compute
            self._hops.append((self._engine_free, self._next_hop))
            self._next_hop += HOP_FRAMES
            end += HOP_FRAMES * FRAME_TICKS

    def _push_hop(self, now: int, first: int) -> None:
        places = range(first, first + HOP_FRAMES)
        self.playout.push_hop([PlayoutFrame(n * FRAME_TICKS, 0, 1.0, None) for n in places], now)

    def _release(self, now: int) -> None:
        for release in self.playout.poll(now):
            if isinstance(release, SoundRelease):
                self.released_sound += SOUND_TICKS
                self._sound_left[release.pts] = now
                self._sound_left.pop(release.pts - TICK_HZ, None)
            elif isinstance(release, VideoRelease):
                self.released_frames += 1
                left = self._sound_left.get(release.frame.pts)
                if left is not None:
                    self.worst_skew = max(self.worst_skew, abs(now - left))


def simulate(hours: float, ppm: float, faults: Faults | None = None, seed: int = 0) -> Drift:
    """Runs one call."""
    faults = faults or Faults()
    began = time.perf_counter()
    call = Call(faults, seed)
    samples = np.zeros(PACKET_TICKS, np.int16)
    most_sound = most_frames = sent = packets = 0
    delays: list[float] = []
    for arrival, pts in arrivals(hours * 3600, ppm, faults, seed):
        call.run_until(arrival)
        call.push(pts, samples, arrival)
        sent, packets = pts + PACKET_TICKS, packets + 1
        most_sound = max(most_sound, call.playout.waiting_sound_ticks)
        most_frames = max(most_frames, call.playout.waiting_frames)
        if arrival >= (len(delays) + 1) * DELAY_EVERY_TICKS:
            base = call.playout.delay.sound_base or 0
            delays.append(round(to_ms(call.playout.delay.offset - base), 1))
    timeline, playout = call.timeline, call.playout
    return Drift(
        hours=hours,
        ppm=ppm,
        clocks_apart_ms=round(hours * 3600 * ppm * 1e-3, 1),
        drift_ms=round(to_ms(timeline.position - sent), 1),
        worst_skew_ms=round(to_ms(call.worst_skew), 1),
        most_waiting_sound_ms=round(to_ms(most_sound), 1),
        most_waiting_frames=most_frames,
        delays_ms=delays,
        lost_ms=round(to_ms(sent - packets * PACKET_TICKS), 1),
        silence_ms=round(to_ms(timeline.silence_ticks), 1),
        dropped_ms=round(to_ms(timeline.dropped_ticks), 1),
        unreleased_ms=round(to_ms(timeline.position - call.released_sound), 1),
        released_frames=call.released_frames,
        missing_frames=playout.missing_frames,
        late_frames=playout.late_frames,
        times_real_time=round(hours * 3600 / (time.perf_counter() - began)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clock_drift", description=__doc__)
    parser.add_argument("--hours", type=float, default=8.0)
    parser.add_argument("--ppm", type=float, default=200.0, help="both signs, and none, are run")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    runs = [simulate(options.hours, ppm) for ppm in (options.ppm, 0.0, -options.ppm)]
    figures = {
        "circumstances": asdict(here("python -m benchmarks.clock_drift", given)),
        "faults": asdict(Faults()),
        "runs": [asdict(run) for run in runs],
    }
    text = json.dumps(figures, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
