"""Sessions in real time on a virtual clock: sound arrives as it would, work takes what it took.

The clock advances by what pushing sound and running hops took on this machine, and jumps over the
time in which nothing is due. So a minute of many sessions costs what their work costs, and what
waits behind what is as it would be in an engine process.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.synthetic import hop_inputs, synthetic_speech
from engine.avatar import AvatarSource, PreparedAvatar
from engine.backends.base import Backend, GeneratedHop, HopInput, SessionState
from engine.media import F32, FPS, SAMPLE_RATE_HZ, U8
from engine.scheduler import Scheduler
from engine.stream import Stream, StreamOptions
from engine.windows import due_sample

PACKET_SAMPLES = 320  # 20 ms
SETTLED_S = 1.5  # contexts are full and every session has spoken; only later hops count
BEHIND_SHARE = 0.01  # of hops that may be done after the next one was due

Clock = Callable[[], float]


class WatchedBackend:
    """A backend whose calls are timed.

    Attributes:
        hop_s: of every call of `run_hop`.
        batches: hops of every such call.
    """

    def __init__(self, backend: Backend, clock: Clock) -> None:
        self._backend = backend
        self._clock = clock
        self.name, self.spec = backend.name, backend.spec
        self.max_batch = backend.max_batch
        self.hop_s: list[float] = []
        self.batches: list[int] = []

    def encode(self, crops: U8, *, masked: bool) -> F32:
        return self._backend.encode(crops, masked=masked)

    def new_session(self, *, hop_frames: int, seed: int) -> SessionState:
        return self._backend.new_session(hop_frames=hop_frames, seed=seed)

    def warm_up(self, hop_frames: int) -> None:
        self._backend.warm_up(hop_frames)

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        start = self._clock()
        hops = self._backend.run_hop(batch)
        self.hop_s.append(self._clock() - start)
        self.batches.append(len(batch))
        return hops


@dataclass(frozen=True, slots=True)
class LoadFigures:
    """What so many sessions met with.

    Attributes:
        seconds: of the virtual clock that count.
        hop_ms_p50 ..: of calls of the network, however many hops they held.
        latency_ms_p50 ..: from the arrival of the sound that made a hop due until its frames
            were finished, pasted into their pictures.
        mean_batch: hops a call.
        late_hops: dropped, because they were later than a stream allows.
        behind: hops that were done after the next one of their session was due.
        network_share: of the virtual time, in the network.
        busy_share: of the virtual time, at work on anything.
        keeps_up: every frame in time: no late hop, and all but 1 % of hops before the next.
    """

    hop: int
    sessions: int
    seconds: float
    hops: int
    hop_ms_p50: float | None
    hop_ms_p95: float | None
    hop_ms_p99: float | None
    latency_ms_p50: float | None
    latency_ms_p95: float | None
    latency_ms_p99: float | None
    mean_batch: float
    late_hops: int
    behind: int
    network_share: float
    busy_share: float
    keeps_up: bool


@dataclass(slots=True)
class _Session:
    stream: Stream
    phase_s: float
    sent: int = 0

    def arrival_s(self, packets: int) -> float:
        """When so many packets have come."""
        return self.phase_s + packets * PACKET_SAMPLES / SAMPLE_RATE_HZ

    def due_s(self, first: int, hop: int) -> float:
        """When the packet comes that makes the hop from frame `first` on due."""
        audio = self.stream.backend.spec.audio
        needed = due_sample(range(first, first + hop), audio)
        return self.arrival_s(-(-needed // PACKET_SAMPLES))


def warm_up(backend: Backend, hop: int, sessions: int) -> None:
    """Runs every batch size twice, a session's first hop and a later one, all sessions held."""
    held = hop_inputs(backend, hop, sessions)
    for batch in range(1, min(sessions, backend.max_batch) + 1):
        inputs = hop_inputs(backend, hop, batch) if batch > 1 else held[:1]
        for _ in range(2):
            backend.run_hop(inputs)


def run_load(
    backend: Backend,
    avatar: PreparedAvatar,
    *,
    hop: int,
    sessions: int,
    seconds: float,
    clock: Clock = time.perf_counter,
) -> LoadFigures:
    """The figures of so many sessions over `seconds` of the virtual clock, all speaking.

    Args:
        clock: what the work takes is read from it.
    """
    warm_up(backend, hop, sessions)
    watched = WatchedBackend(backend, clock)
    scheduler = Scheduler(watched)
    phases = np.random.default_rng(0).uniform(0.0, hop / FPS, sessions)
    options = StreamOptions(hop_frames=hop, realtime=True)
    parties = [
        _Session(Stream(watched, AvatarSource(avatar), options), float(phase)) for phase in phases
    ]
    by_stream = {id(party.stream): party for party in parties}
    for party in parties:
        scheduler.add(party.stream)
    speech = synthetic_speech(10 * FPS)
    arrivals = [(party.arrival_s(1), index) for index, party in enumerate(parties)]
    heapq.heapify(arrivals)
    now = busy = 0.0
    latencies: list[float] = []
    behind = 0
    began_calls, began_busy = 0, 0.0
    settled = False
    while now < SETTLED_S + seconds:
        if not settled and now >= SETTLED_S:
            settled, began_calls, began_busy = True, len(watched.hop_s), busy
        start = clock()
        while arrivals[0][0] <= now:
            _, index = heapq.heappop(arrivals)
            party = parties[index]
            at = party.sent * PACKET_SAMPLES % (len(speech) - PACKET_SAMPLES)
            party.stream.push_audio(speech[at : at + PACKET_SAMPLES])
            party.sent += 1
            heapq.heappush(arrivals, (party.arrival_s(party.sent + 1), index))
        outputs = scheduler.run_due()
        spent = clock() - start
        now += spent
        busy += spent
        if not outputs:
            now = max(now, arrivals[0][0])
            continue
        for output in outputs:
            if output.error is not None:
                raise output.error
            party = by_stream[id(output.stream)]
            for frame in output.frames[::hop]:
                due = party.due_s(frame.index, hop)
                if due >= SETTLED_S and frame.synced > 0.0:
                    latencies.append(now - due)
                    behind += now - due > hop / FPS
    late = sum(party.stream.state.late_hops for party in parties)
    counted = now - SETTLED_S
    hop_ms = [1e3 * spent for spent in watched.hop_s[began_calls:]]
    batches = watched.batches[began_calls:]
    hop_p50, hop_p95, hop_p99 = _percentiles(hop_ms)
    p50, p95, p99 = _percentiles([1e3 * latency for latency in latencies])
    return LoadFigures(
        hop=hop,
        sessions=sessions,
        seconds=round(counted, 2),
        hops=len(latencies),
        hop_ms_p50=hop_p50,
        hop_ms_p95=hop_p95,
        hop_ms_p99=hop_p99,
        latency_ms_p50=p50,
        latency_ms_p95=p95,
        latency_ms_p99=p99,
        mean_batch=round(float(np.mean(batches)), 2) if batches else 0.0,
        late_hops=late,
        behind=behind,
        network_share=round(sum(hop_ms) / 1e3 / counted, 4),
        busy_share=round((busy - began_busy) / counted, 4),
        keeps_up=bool(latencies) and late == 0 and behind <= BEHIND_SHARE * len(latencies),
    )


def _percentiles(samples: Sequence[float]) -> list[float | None]:
    """The 50th, 95th and 99th; None of nothing."""
    if not samples:
        return [None] * 3
    return [round(float(p), 3) for p in np.percentile(samples, (50, 95, 99))]
