"""The media of one session: sound and camera in, engine, playout, sound and pictures out.

Everything runs on the event loop in steps far shorter than a frame; the only
clock is a timer that is armed for the next release.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from aiortc import clock as aiortc_clock
from av import AudioFrame, AudioResampler, VideoFrame

from engine.media import Picture
from server.engine_link.host import EngineHost
from server.engine_link.messages import HopReady, Mode
from server.engine_link.stream import EngineFrame, EngineStream
from server.logs import SessionLog
from server.media.av_frames import (
    VIDEO_CLOCK_HZ,
    SpeechResampler,
    frame_from_picture,
    frame_from_sound,
    mono_from_frame,
    picture_from_frame,
)
from server.media.media_clock import (
    FRAME_TICKS,
    SOUND_TICKS,
    TICK_HZ,
    TICKS_PER_MS,
    TICKS_PER_SAMPLE,
    now_ticks,
    to_ms,
    to_seconds,
)
from server.media.playout import (
    DelayControl,
    Playout,
    PlayoutFrame,
    SoundRelease,
    VideoMissing,
    VideoRelease,
    VideoRest,
)
from server.media.source_pictures import CameraPictures, SourcePictures, half_way
from server.media.speech_queue import PlaybackMessage, SpeechQueue
from server.media.stage_times import StageTimes
from server.media.timeline import I16, CameraClock, SpeechTimeline
from server.media.tracks import SoundOut, VideoOut
from server.metrics.counters import Metrics
from server.protocol import Percentiles, Stats

LATENCY_WINDOW = 250  # pictures, 10 s
# A picture comes about 10 ms after it was taken (encoder, network, decoder). Sound comes 20 ms
# after it was captured, when its packet is full, and Opus delays it by 6.5 ms each way.
CAMERA_AHEAD_TICKS = 23 * TICKS_PER_MS
PACKET_TICKS = SOUND_TICKS  # a packet leaves its sender when its last sample is captured
# What a microphone had captured when an interrupt left it still comes after it: the packet that
# was being filled, the 6.5 ms that Opus holds back, and a little jitter.
CAPTURED_TICKS = PACKET_TICKS + 20 * TICKS_PER_MS


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Bounds of one session's media.

    Attributes:
        largest: width and height of the largest picture.
        initial_delay: ticks that playout holds sound back to begin with.
        lead: silence before the first packet, see `SpeechTimeline`.
        max_delay: ticks that it never exceeds.
        hop_frames: of the engine's hops, until it says otherwise.
        lookahead: ticks of sound after a frame's end that the engine waits for.
    """

    largest: tuple[int, int]
    initial_delay: int
    max_delay: int
    hop_frames: int
    lead: int = 0
    lookahead: int = 0


class SessionMedia:
    """Feeds one engine stream and the two outgoing tracks of a session.

    Attributes:
        sound_out, video_out: tracks for the peer connection.
        generation: of the speech that counts.
        speech: utterances that wait for their turn; None where a microphone speaks.
    """

    def __init__(
        self,
        session: str,
        mode: Mode,
        avatar: str | None,
        host: EngineHost,
        metrics: Metrics,
        limits: MediaLimits,
        log: SessionLog,
        clip: SourcePictures | None = None,
    ) -> None:
        """
        Args:
            clip: an avatar's own pictures; without it, places without a picture stay so.
        """
        self._mode = mode
        self._host = host
        self._metrics = metrics
        self._limits = limits
        self._log = log
        self.sound_out = SoundOut(0)
        self.video_out = VideoOut(0)
        self.generation = 0
        self.speech: SpeechQueue | None = None
        self.failure: tuple[str, str] | None = None
        self._stream: EngineStream = host.open_stream(session, mode, avatar, limits.largest, self)
        self._timeline: SpeechTimeline | None = None
        self._playout: Playout[Picture] | None = None
        self._times: StageTimes | None = None
        self._resampler = SpeechResampler()
        self._converter: AudioResampler | None = None
        self._camera_clock = CameraClock()
        self._camera = CameraPictures()
        self._source: SourcePictures = clip if clip is not None else self._camera
        self._made_until = 0  # media time of the end of the engine's last picture
        self._timer: asyncio.TimerHandle | None = None
        self._void_until = 0  # media time: a microphone's sound before it is void
        self._latencies: deque[int] = deque(maxlen=LATENCY_WINDOW)
        self._synced: deque[float] = deque(maxlen=25)
        self._sent = 0
        self._sent_at = 0
        self._sent_before = 0
        self._late_hops = 0
        self._slot_drops = 0
        self._compute_ms = 0.0
        self._hop_frames: int | None = None
        self._counted: dict[tuple[str, str], int] = {}
        self._on_playback: Callable[[PlaybackMessage], None] = lambda message: None

    @property
    def started(self) -> bool:
        return self._playout is not None

    @property
    def epoch_ntp_us(self) -> int:
        """NTP time of media time 0, once started."""
        return self.sound_out.epoch_ntp * 1_000_000 >> 32

    def queue_speech(self, window: int, on_playback: Callable[[PlaybackMessage], None]) -> None:
        """Takes speech from a queue instead of a microphone; before `start`.

        Args:
            window: ticks that may wait.
            on_playback: told when utterances begin and end to leave.
        """
        self.speech = SpeechQueue(window)
        self._on_playback = on_playback

    def start(self) -> None:
        """Begins media time: the peer is connected."""
        if self.started:
            return
        now = now_ticks()
        self._timeline = SpeechTimeline(now, self._limits.lead)
        if self.speech is not None:
            self.speech.begin(now, self._limits.lead)
        initial = now + self._limits.initial_delay
        delay = DelayControl(initial, self._limits.max_delay, self._limits.hop_frames)
        self._playout = Playout(delay)
        self._times = StageTimes(self._metrics.stages, delay)
        self.video_out.on_sent = self._times.sent
        epoch_ntp = aiortc_clock.current_ntp_time()
        self.sound_out.epoch_ntp = self.video_out.epoch_ntp = epoch_ntp
        self._sent_at = now
        self._tick()

    def new_tracks(self) -> tuple[SoundOut, VideoOut]:
        """Tracks for another connection, on the same media time; they get nothing yet."""
        epoch_ntp = self.sound_out.epoch_ntp
        sound_out, video_out = SoundOut(epoch_ntp), VideoOut(epoch_ntp)
        video_out.on_sent = self.video_out.on_sent
        return sound_out, video_out

    def send_to(self, sound_out: SoundOut, video_out: VideoOut) -> None:
        """Sends to other tracks from now on; the old ones end."""
        sound_out.dropped, video_out.dropped = self.sound_out.dropped, self.video_out.dropped
        self.sound_out.stop()
        self.video_out.stop()
        self.sound_out, self.video_out = sound_out, video_out

    def send_nowhere(self) -> None:
        """Sends to nobody from now on, until `send_to`."""
        self.sound_out.stop()
        self.video_out.stop()

    def restart_clocks(self) -> None:
        """Another connection's packets are to come, with timestamps from other origins."""
        if self._timeline is not None:
            self._timeline.restart()
        self._camera_clock = CameraClock()

    def close(self) -> None:
        """Stops the clock and gives the engine's stream back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._playout = None
        self._stream.close()
        self._count_drops()

    # --- in ------------------------------------------------------------------

    def push_sound(self, frame: AudioFrame) -> None:
        """Takes one decoded packet of the peer's microphone."""
        if self._timeline is None or frame.pts is None:
            return
        pts = frame.pts * TICK_HZ // frame.sample_rate
        frames = [frame]
        if frame.sample_rate != TICK_HZ or frame.format.name != "s16":
            if self._converter is None:
                self._converter = AudioResampler(format="s16", layout="mono", rate=TICK_HZ)
            frames = self._converter.resample(frame)
        now = now_ticks()
        for part in frames:
            samples = mono_from_frame(part)
            added = self._timeline.push(pts, samples, now)
            self._add_sound(self._without_void(added), now)
            if self._times is not None:
                self._times.sound_received(self._timeline.position, now)
            pts += len(samples)

    def push_speech(self, samples: I16) -> None:
        """Adds 48 kHz speech to the queue.

        Raises:
            AudioOverrun: more than there was credit for.
        """
        if self.speech is not None:
            self.speech.push(samples, now_ticks())

    def push_camera(self, frame: VideoFrame) -> None:
        """Takes one decoded picture of the peer's camera."""
        if self._playout is None or frame.pts is None or frame.time_base is None:
            return
        base = self._playout.delay.sound_base
        if base is None:
            return
        picture = picture_from_frame(frame, self._limits.largest)
        pts = int(frame.pts * frame.time_base * TICK_HZ)
        media = self._camera_clock.place(pts, now_ticks() - base + CAMERA_AHEAD_TICKS)
        self._camera.push(picture, media)
        self._stream.push_video(picture, max(media, 0) // TICKS_PER_SAMPLE)

    def interrupt(self, *, captured: bool = False) -> int:
        """Voids everything said so far; the new generation.

        Args:
            captured: what a microphone has captured by now is void too, though it comes later.
        """
        self.generation += 1
        if self.speech is not None:
            for message in self.speech.interrupt(self.generation):
                self._on_playback(message)
        self._resampler.forget()  # a millisecond of old speech would open the mouth again
        self.sound_out.drop_waiting()
        void = self.video_out.drop_waiting()
        if self._playout is not None and self._times is not None:
            now, base = now_ticks(), self._playout.delay.sound_base
            self._playout.interrupt(self.generation, now)
            self._times.interrupted(now)
            for frame in void:
                self.rest_in_place_of(frame)
            if captured and base is not None:
                self._void_until = now - base + PACKET_TICKS + CAPTURED_TICKS
            self._arm(now)
        self._stream.interrupt(self.generation)
        return self.generation

    def rest_in_place_of(self, frame: VideoFrame) -> None:
        """Shows the source's own picture where a frame was void before it was sent."""
        if frame.pts is not None and self._playout is not None:
            self._playout.skip_fading()
            self._send_source(frame.pts * TICK_HZ // VIDEO_CLOCK_HZ)

    def _without_void(self, added: I16) -> I16:
        """What a packet has added, silent where an interrupt came after its capture."""
        if self._timeline is None:
            return added
        void = self._void_until - (self._timeline.position - len(added))
        if void <= 0:
            return added
        silenced = added.copy()
        silenced[:void] = 0
        return silenced

    def _add_sound(self, samples: I16, now: int) -> None:
        if self._playout is None or self._times is None or not len(samples):
            return
        self._playout.push_sound(samples, now)
        self._stream.push_audio(self._resampler.push(samples))
        self._times.sound_given(self._playout.sound_end, now)

    # --- from the engine -------------------------------------------------------

    def on_hop(self, frames: Sequence[EngineFrame], hop: HopReady) -> None:
        """Queues the frames of a hop."""
        self._late_hops += hop.late_hops
        self._metrics.late_hops.inc(hop.late_hops)
        for reason, count in hop.closed_frames.items():
            self._metrics.closed_frames.labels(reason).inc(count)
        self._slot_drops += hop.dropped
        if hop.compute_ms > 0:
            self._compute_ms = hop.compute_ms
            self._metrics.hop_frames.observe(len(frames))
        if frames:
            self._queue(frames, hop.compute_ms)
        if hop.next_hop_frames is not None and hop.next_hop_frames != self._hop_frames:
            self._hop_frames = hop.next_hop_frames
            if self._playout is not None:
                self._playout.delay.change_hop(hop.next_hop_frames)

    def _queue(self, frames: Sequence[EngineFrame], compute_ms: float) -> None:
        playout = self._playout
        if playout is None or self._times is None:
            return
        now = now_ticks()
        due = (frames[-1].index + 1) * FRAME_TICKS + self._limits.lookahead
        self._times.hop_ready(frames[0].index * FRAME_TICKS, due, compute_ms, now)
        queue = [
            PlayoutFrame(
                frame.index * FRAME_TICKS, frame.generation, frame.synced, frame.picture, now
            )
            for frame in frames
        ]
        playout.push_hop(queue, now)
        self._arm(now)

    def on_stream_failed(self, code: str, message: str) -> None:
        """Remembers why the engine gave this session up; the session's owner ends it."""
        self._log.error("engine refused the stream: %s", message)
        self.failure = (code, message)

    def on_engine_lost(self) -> None:
        """Forgets how fast the engine was."""
        self._log.warning("the engine is gone; source pictures until it is back")
        if self._playout is not None:
            self._playout.delay.forget_hops()

    # --- out -------------------------------------------------------------------

    def _tick(self) -> None:
        playout, timeline = self._playout, self._timeline
        if playout is None or timeline is None:
            return
        now = now_ticks()
        self._add_sound((self.speech or timeline).fill(now), now)
        for release in playout.poll(now):
            match release:
                case SoundRelease():
                    self.sound_out.release(frame_from_sound(release.samples, release.pts))
                    self._note_released(release.pts + len(release.samples))
                case VideoRelease():
                    self._send(release, now)
                case VideoRest():
                    self._send_source(release.pts, release.fading)
                case VideoMissing():
                    if release.pts >= self._made_until + self._source.patience:
                        self._send_source(release.pts)
        self._arm(now)

    def _arm(self, now: int) -> None:
        """Sets the timer for the next release, and for the next look at missing sound."""
        if self._playout is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        due = self._playout.next_due()
        if self.speech is not None:
            due = min(due, self.speech.next_due())
        wait = min(max(due - now, 0), SOUND_TICKS)
        # A tick that finds nothing due must not spin.
        wait = max(wait, TICKS_PER_MS // 2)
        self._timer = asyncio.get_running_loop().call_later(to_seconds(wait), self._tick)

    def _note_released(self, end: int) -> None:
        if self.speech is not None:
            for message in self.speech.note_released(end):
                self._on_playback(message)

    def _send(self, release: VideoRelease[Picture], now: int) -> None:
        frame = release.frame
        self._show(frame.picture, frame.pts, frame.synced, release.fading)
        self._made_until = frame.pts + FRAME_TICKS
        self._metrics.frames["synced" if frame.synced > 0 else "rest"].inc()
        base = self._playout.delay.sound_base if self._playout else None
        latency = None if base is None else now - base - frame.pts
        if latency is not None:
            self._latencies.append(latency)
        if self._times is not None:
            self._times.released(frame.ready, latency, now)

    def _send_source(self, pts: int, fading: PlayoutFrame[Picture] | None = None) -> None:
        """Shows the source's own picture in a place that the engine left empty."""
        picture = self._source.at(pts)
        if picture is not None:
            self._show(picture, pts, 0.0, fading)
            self._metrics.frames["source"].inc()

    def _show(
        self, picture: Picture, pts: int, synced: float, fading: PlayoutFrame[Picture] | None
    ) -> None:
        """Hands a picture to the encoder, half way from another one where that still fades."""
        if fading is not None and self._source.mixes:
            picture, synced = half_way(fading.picture, picture), (synced + fading.synced) / 2
        if synced == 0.0 and self._times is not None:
            self._times.rests(pts)
        self.video_out.release(frame_from_picture(picture, pts))
        self._sent += 1
        self._synced.append(synced)

    # --- figures ---------------------------------------------------------------

    def stats(self, *, stalled: bool) -> Stats:
        """The figures of the time since the last call."""
        now = now_ticks()
        elapsed = max(now - self._sent_at, 1)
        fps = (self._sent - self._sent_before) * TICK_HZ / elapsed
        self._sent_at, self._sent_before = now, self._sent
        self._count_drops()
        playout = self._playout
        delay = 0
        if playout is not None and playout.delay.sound_base is not None:
            delay = playout.delay.offset - playout.delay.sound_base
        latency = _percentiles(self._latencies)
        return Stats(
            fps=round(fps, 1),
            late_hops=self._late_hops,
            dropped_frames=sum(self._drops().values()),
            missing_frames=playout.missing_frames if playout else 0,
            server_latency_ms=latency,
            capture_to_frame_ms=(
                None if latency.p95 is None else round(latency.p95 + to_ms(PACKET_TICKS), 1)
            ),
            playout_delay_ms=round(to_ms(delay), 1),
            synced=round(float(np.mean(self._synced)), 3) if self._synced else 0.0,
            compute_ms=round(self._compute_ms, 1),
            hop_frames=self._hop_frames,
            backend=self._host.ready.backend if self._host.ready else "none",
            engine=self._host.state,
            stalled=stalled,
            backend_reason=self._host.ready.backend_reason if self._host.ready else None,
        )

    def _drops(self) -> dict[tuple[str, str], int]:
        """Pictures dropped so far, by queue and reason."""
        drops = {
            ("engine", "no_slot"): self._slot_drops,
            ("camera", "replaced"): self._stream.camera_drops,
            ("encoder", "behind"): self.video_out.dropped,
        }
        if self._playout is not None:
            drops["playout", "late"] = self._playout.late_frames
            drops["playout", "stalled"] = self._playout.stalled_frames
        return drops

    def _sound_drops(self) -> dict[tuple[str, str], int]:
        """Blocks of sound dropped so far, by queue and reason."""
        late = self._timeline.dropped_ticks if self._timeline is not None else 0
        behind = self.sound_out.dropped
        return {("receive", "late"): late // SOUND_TICKS, ("encoder", "behind"): behind}

    def _count_drops(self) -> None:
        drops = Counter(self._drops())
        drops.update(self._sound_drops())
        for (queue, reason), count in drops.items():
            before = self._counted.get((queue, reason), 0)
            self._metrics.dropped.labels(queue, reason).inc(count - before)
            self._counted[queue, reason] = count


def _percentiles(values: deque[int]) -> Percentiles:
    if not values:
        return Percentiles(None, None)
    p50, p95 = np.percentile(np.array(values), (50, 95))
    return Percentiles(round(float(p50) / TICKS_PER_MS, 1), round(float(p95) / TICKS_PER_MS, 1))
