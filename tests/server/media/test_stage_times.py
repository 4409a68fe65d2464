"""Where the time of a session's media goes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram

from server.media.media_clock import FRAME_TICKS, SOUND_TICKS, TICKS_PER_MS, now_ticks
from server.media.playout import DelayControl
from server.media.stage_times import StageTimes
from server.metrics.counters import STAGES

MS = TICKS_PER_MS


class Stages:
    """The stages of one session, and what was observed of each."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        family = Histogram("s", "", ["stage"], registry=self.registry)
        self.delay = DelayControl(300 * MS, 800 * MS)
        self.times = StageTimes({name: family.labels(name) for name in STAGES}, self.delay)

    def seen(self) -> dict[str, tuple[int, float]]:
        """(how often, milliseconds in all) of each stage that was observed."""
        found = {}
        for stage in STAGES:
            count = self.registry.get_sample_value("s_count", {"stage": stage})
            total = self.registry.get_sample_value("s_sum", {"stage": stage})
            if count and total is not None:
                found[stage] = (int(count), round(total * 1000, 1))
        return found


def test_nothing_is_observed_before_the_first_sound() -> None:
    stages = Stages()
    stages.times.sound_received(SOUND_TICKS, 20 * MS)
    stages.times.hop_ready(0, FRAME_TICKS, 0.0, 50 * MS)
    assert stages.seen() == {}


def test_a_packet_that_comes_late_has_waited_for_what_it_is_later_than_the_quickest() -> None:
    stages = Stages()
    stages.delay.observe_sound(5 * MS)  # of media time 0
    stages.times.sound_received(SOUND_TICKS, 5 * MS)
    stages.times.sound_received(2 * SOUND_TICKS, (5 + 20 + 12) * MS)
    assert stages.seen() == {"receive": (2, 12)}


def test_a_hops_time_is_split_into_waiting_and_computing() -> None:
    stages = Stages()
    stages.delay.observe_sound(0)
    for block in range(1, 14):  # 20 ms each, from 20 ms on
        stages.times.sound_given(block * SOUND_TICKS, block * 20 * MS)
    # Four frames and 82 ms after them: the sound to 242 ms came with the block that ends at 260.
    stages.times.hop_ready(0, 4 * FRAME_TICKS + 82 * MS, 35.0, (260 + 35 + 7) * MS)
    assert stages.seen() == {"hop": (1, 302), "generate": (1, 35), "queue": (1, 7)}


def test_pictures_that_no_batch_made_have_waited_for_none() -> None:
    stages = Stages()
    stages.delay.observe_sound(0)
    stages.times.sound_given(SOUND_TICKS, 0)
    stages.times.hop_ready(0, SOUND_TICKS, 0.0, 10 * MS)
    assert stages.seen() == {"hop": (1, 10)}


def test_a_picture_is_followed_through_playout_and_encoder() -> None:
    stages = Stages()
    now = now_ticks()
    stages.delay.observe_sound(now - 400 * MS)
    stages.times.released(now - 60 * MS, 320 * MS, now)
    stages.times.sent(0, now)
    seen = stages.seen()
    assert seen["playout"] == (1, 60) and seen["frame"] == (1, 320)
    assert seen["encode"][0] == 1 and seen["total"][0] == 1
