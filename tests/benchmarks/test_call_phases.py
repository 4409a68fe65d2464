"""What a watched call got between two moments, from what came and when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from benchmarks.call_phases import NOISE, Watched
from benchmarks.caller import BLOCK_SAMPLES, Received, RecordedCall
from server.protocol import Percentiles, Stats


def told(fps: float, synced: float, late_hops: int = 0) -> Stats:
    return Stats(
        fps=fps,
        late_hops=late_hops,
        dropped_frames=0,
        missing_frames=0,
        server_latency_ms=Percentiles(200, 250),
        capture_to_frame_ms=270,
        playout_delay_ms=180,
        synced=synced,
        compute_ms=20,
        hop_frames=4,
        backend="none",
        engine="ready",
        stalled=False,
    )


def watched(received: Received) -> Watched:
    return Watched(cast(RecordedCall, SimpleNamespace(received=received)))


def test_lost_silent_and_late_sound_are_told_apart() -> None:
    received = Received()
    for number in range(100):
        at, peak = number * 0.02, NOISE
        if number == 20:
            continue  # lost
        if number == 40:
            peak = 0  # came without the noise
        if number >= 60:
            at += 0.15  # what follows is late for good: one stutter
        received.sound.append((at, number * BLOCK_SAMPLES, peak, 0))
    received.video = [(number * 0.04, 0, -1, 512, 512) for number in range(50)]
    phase = watched(received).phase(0.0, 2.2)
    assert (phase.lost_sound_ms, phase.silent_sound_ms, phase.stutters) == (20, 20, 1)
    assert phase.longest_sound_gap_ms == 170
    assert 22 < phase.fps < 23


def test_late_hops_are_those_since_the_phase_began() -> None:
    call = watched(Received())
    call.told = [(0.5, told(25, 1, 3)), (1.5, told(25, 1, 8)), (2.5, told(25, 1, 9))]
    assert call.phase(1.0, 2.0).late_hops == 5


def test_lips_are_synced_again_from_the_second_after_which_none_was_worse() -> None:
    call = watched(Received())
    call.told = [
        (10.5, told(25, 0.2)),
        (11.5, told(25, 0.95)),
        (12.5, told(12, 0.95)),
        (13.5, told(25, 0.95)),
        (14.5, told(25, 1.0)),
    ]
    assert call.synced_again(10.0, 1.0) == 3.5
    assert call.synced_again(14.6, 1.0) is None
