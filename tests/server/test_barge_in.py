"""An interrupt at any moment: a resting mouth and silence within two frames, on a turned clock."""

from __future__ import annotations

import numpy as np
import pytest

from engine.avatar import AvatarSource
from engine.scheduler import Scheduler
from engine.stream import Stream, StreamOptions
from server.av_frames import SpeechResampler
from server.media_clock import FRAME_TICKS, SOUND_TICKS, TICK_HZ, TICKS_PER_MS
from server.playout import DelayControl, Playout, PlayoutFrame, SoundRelease, VideoRelease
from server.speech_queue import SpeechQueue
from tests.fakes import FakeBackend, fake_avatar

STEP = TICKS_PER_MS  # the clock's
DELAY = 330 * TICKS_PER_MS
COMPUTE = 40 * TICKS_PER_MS  # from a hop's being due to its frames: the engine's way
WAY = 3 * TICKS_PER_MS  # of a message to the engine process and back
TALK = 1500  # ms before the interrupt
SILENT = 4  # of 32,767


class Call:
    """One avatar's call: queue, stream and playout, as the gateway and the engine join them."""

    def __init__(self) -> None:
        self.now = 0
        self.speech = SpeechQueue(TICK_HZ * 60)
        self.speech.begin(0, 0)
        self.playout: Playout[float] = Playout(DelayControl(DELAY, 2 * DELAY))
        options = StreamOptions(hop_frames=4)
        self.stream = Stream(FakeBackend(), AvatarSource(fake_avatar()), options)
        self.scheduler = Scheduler(self.stream.backend)
        self.scheduler.add(self.stream)
        self.resampler = SpeechResampler()
        self.coming: list[tuple[int, list[PlayoutFrame[float]]]] = []
        self.pictures: list[tuple[int, float]] = []  # when it left, and its share of mouth
        self.sound: list[tuple[int, int]] = []  # when a block left, and its loudest sample

    def interrupt(self) -> None:
        """As `SessionMedia.interrupt`; the engine hears of it after `WAY`."""
        self.speech.interrupt(1)
        self.resampler.forget()
        self.playout.interrupt(1)
        first = self.playout.next_pts // FRAME_TICKS
        self.stream.interrupt(1, first)
        frames = [
            PlayoutFrame(frame.index * FRAME_TICKS, 1, frame.synced, frame.synced)
            for frame in self.stream.collect()
        ]
        self.coming.append((self.now + 2 * WAY, frames))

    def run(self, ms: int) -> None:
        """Lets time pass."""
        for _ in range(ms):
            self.now += STEP
            samples = self.speech.fill(self.now)
            if len(samples):
                self.playout.push_sound(samples, self.now)
                self.stream.push_audio(self.resampler.push(samples), self.playout.generation)
            for output in self.scheduler.run_due():
                hop = [
                    PlayoutFrame(f.index * FRAME_TICKS, f.generation, f.synced, f.synced)
                    for f in output.frames
                ]
                self.coming.append((self.now + COMPUTE, hop))
            for arrival, frames in self.coming:
                if arrival == self.now and frames:
                    self.playout.push_hop(frames, self.now)
            for release in self.playout.poll(self.now):
                if isinstance(release, SoundRelease):
                    self.sound.append((self.now, int(np.abs(release.samples).max())))
                elif isinstance(release, VideoRelease):
                    self.pictures.append((self.now, release.frame.synced))


@pytest.mark.parametrize("phase_ms", range(0, 160, 23))
def test_mouth_and_sound_rest_within_two_frames_of_an_interrupt(phase_ms: int) -> None:
    call = Call()
    noise = np.random.default_rng(0).standard_normal(6 * TICK_HZ) * 3000
    call.speech.push(noise.astype(np.int16), 0)
    call.run(TALK + phase_ms)
    assert call.pictures[-1][1] == 1.0 and call.sound[-1][1] > 1000
    at, shown, heard = call.now, len(call.pictures), len(call.sound)
    call.interrupt()
    call.run(600)
    after = call.pictures[shown:]
    spoken = [share for _, share in after if share > 0]
    assert len(spoken) <= 2
    resting = next(when for when, share in after if share == 0)
    assert resting - at <= 3 * FRAME_TICKS  # the third picture at the latest
    loud = [when for when, peak in call.sound[heard:] if peak > SILENT]
    assert all(when + SOUND_TICKS - at <= 2 * FRAME_TICKS for when in loud)
    assert all(share == 0 for _, share in after[2:]), "nothing of the old speech comes later"
    assert len(after) >= 600 * TICKS_PER_MS // FRAME_TICKS - 2


def test_what_is_said_after_an_interrupt_is_shown() -> None:
    call = Call()
    noise = np.random.default_rng(0).standard_normal(3 * TICK_HZ) * 3000
    call.speech.push(noise.astype(np.int16), 0)
    call.run(TALK)
    call.interrupt()
    call.run(400)
    call.speech.push(noise.astype(np.int16), call.now)
    shown = len(call.pictures)
    call.run(1000)
    assert max(share for _, share in call.pictures[shown:]) == 1.0
