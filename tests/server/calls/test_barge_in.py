"""An interrupt at any moment: a resting mouth and silence within two frames, on a turned clock."""

from __future__ import annotations

import numpy as np
import pytest

from engine.avatar import AvatarSource
from engine.scheduler import Scheduler
from engine.stream import Stream, StreamOptions
from server.media.av_frames import SpeechResampler
from server.media.media_clock import FRAME_TICKS, SOUND_TICKS, TICK_HZ, TICKS_PER_MS
from server.media.playout import (
    DelayControl,
    Playout,
    PlayoutFrame,
    SoundRelease,
    VideoMissing,
    VideoRelease,
    VideoRest,
)
from server.media.speech_queue import SpeechQueue
from tests.fakes import FakeBackend, fake_avatar

STEP = TICKS_PER_MS  # the clock's
DELAY = 330 * TICKS_PER_MS
COMPUTE = 40 * TICKS_PER_MS  # from a hop's being due to its frames: the engine's way
WAY = 3 * TICKS_PER_MS  # of a message to the engine process and back
TALK = 1500  # ms before the interrupt
SILENT = 4  # of 32,767


class Call:
    """One avatar's call: queue, stream and playout, as the gateway and the engine join them.

    Attributes:
        answers: whether the engine gives anything from now on.
        pictures: when each left, its place, and its share of generated mouth.
        sound: when a block left, and its loudest sample.
    """

    def __init__(self) -> None:
        self.now = 0
        self.answers = True
        self.speech = SpeechQueue(TICK_HZ * 60)
        self.speech.begin(0, 0)
        self.playout: Playout[float] = Playout(DelayControl(DELAY, 2 * DELAY))
        options = StreamOptions(hop_frames=4)
        self.stream = Stream(FakeBackend(), AvatarSource(fake_avatar()), options)
        self.scheduler = Scheduler(self.stream.backend)
        self.scheduler.add(self.stream)
        self.resampler = SpeechResampler()
        self.coming: list[tuple[int, list[PlayoutFrame[float]]]] = []
        self.pictures: list[tuple[int, int, float]] = []
        self.sound: list[tuple[int, int]] = []

    def interrupt(self) -> None:
        """As `SessionMedia.interrupt`; the engine hears of it after `WAY`."""
        self.speech.interrupt(1)
        self.resampler.forget()
        self.playout.interrupt(1, self.now)
        self.stream.interrupt(1)
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
                if arrival == self.now and frames and self.answers:
                    self.playout.push_hop(frames, self.now)
            for release in self.playout.poll(self.now):
                match release:
                    case SoundRelease():
                        self.sound.append((self.now, int(np.abs(release.samples).max())))
                    case VideoRelease():
                        self._show(release.frame.pts, release.frame.synced, release.fading)
                    case VideoRest():
                        self._show(release.pts, 0.0, release.fading)
                    case VideoMissing():
                        raise AssertionError(f"no picture at {release.pts}")

    def _show(self, pts: int, share: float, fading: PlayoutFrame[float] | None) -> None:
        shown = share if fading is None else (share + fading.synced) / 2
        self.pictures.append((self.now, pts, shown))


def talking() -> Call:
    """A call in mid-speech."""
    call = Call()
    noise = np.random.default_rng(0).standard_normal(6 * TICK_HZ) * 3000
    call.speech.push(noise.astype(np.int16), 0)
    call.run(TALK)
    return call


@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("phase_ms", range(0, 160, 23))
def test_mouth_and_sound_rest_within_two_frames_of_an_interrupt(
    phase_ms: int, *, answers: bool
) -> None:
    call = talking()
    call.run(phase_ms)
    assert call.pictures[-1][2] == 1.0 and call.sound[-1][1] > 1000
    at, shown, heard = call.now, len(call.pictures), len(call.sound)
    call.interrupt()
    call.answers = answers
    call.run(600)
    after = call.pictures[shown:]
    assert [share for _, _, share in after if share > 0] in ([], [0.5])
    resting = next(when for when, _, share in after if share == 0)
    assert resting - at <= 1.5 * FRAME_TICKS  # the rest is the encoder's and the network's
    assert not any(share for when, _, share in after if when >= resting)
    loud = [when for when, peak in call.sound[heard:] if peak > SILENT]
    assert all(when + SOUND_TICKS - at <= 2 * FRAME_TICKS for when in loud)


@pytest.mark.parametrize("answers", [True, False])
def test_no_place_is_late_or_missing_after_an_interrupt(*, answers: bool) -> None:
    call = talking()
    call.interrupt()
    call.answers = answers
    shown = len(call.pictures)
    call.run(600)
    places = [pts for _, pts, _ in call.pictures[shown - 1 :]]
    assert np.diff(places).tolist() == [FRAME_TICKS] * (len(places) - 1)
    left = [when for when, _, _ in call.pictures[shown - 1 :]]
    assert max(np.diff(left)) <= FRAME_TICKS + STEP
    assert call.playout.late_frames == call.playout.missing_frames == 0


def test_what_is_said_after_an_interrupt_is_shown() -> None:
    call = talking()
    noise = np.random.default_rng(0).standard_normal(3 * TICK_HZ) * 3000
    call.interrupt()
    call.run(400)
    call.speech.push(noise.astype(np.int16), call.now)
    shown = len(call.pictures)
    call.run(1000)
    shares = [share for _, _, share in call.pictures[shown:]]
    assert max(shares) == 1.0
    assert max(np.diff(shares)) < 0.4, "speech fades in"
