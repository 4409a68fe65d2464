"""One session: speech and pictures in, finished frames in order out.

A stream does no I/O and has no clock. Time is its audio: frame i is due when
the sound up to its look-ahead has been pushed. What runs the network is the
scheduler; rendering a file and serving a call feed the same object.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from engine.audio.features import FeatureStream
from engine.backends.base import Backend, GeneratedHop, SessionState
from engine.backends.portable import change_hop
from engine.errors import AudioFormatError, ConfigError, StreamClosed, StreamError
from engine.face.mask import paste_weights
from engine.face.paste_back import PasteMask, paste_crop
from engine.face.warp import SourceWarp
from engine.gate import ClosedReason, Fade, SpeechActivity
from engine.media import F32, FRAME_SAMPLES, SAMPLE_RATE_HZ, U8, Picture, RenderedFrame
from engine.pipeline import FaceSource, PendingHop, SourceFrame, paste_hop
from engine.windows import WindowPlan, due_sample, frames_of, plan_window

WAITING_FRAMES = 25  # sound kept while a camera has sent nothing
REST_FRAMES = 2  # of a cut stream: one frame half way, then the source's own mouth


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream treats time.

    Attributes:
        hop_frames: new frames a call; None: the model's default.
        realtime: sound arrives at the speed of speech. Hops that are late are
            dropped whole, and an interrupt silences what has arrived instead
            of cutting it out of the timeline.
        late_limit_samples: a realtime hop is late when this much sound has
            arrived, or will have arrived when it is done, after it became due.
        queue_limit_samples: sound that may wait to be rendered.
        seed: of the session's fixed noise.
    """

    hop_frames: int | None = None
    realtime: bool = True
    late_limit_samples: int = SAMPLE_RATE_HZ * 4 // 10
    queue_limit_samples: int = SAMPLE_RATE_HZ * 60
    seed: int = 0

    def __post_init__(self) -> None:
        if self.late_limit_samples < 0 or self.queue_limit_samples < FRAME_SAMPLES:
            raise ConfigError(
                "expected late_limit_samples >= 0 and queue_limit_samples >= "
                f"{FRAME_SAMPLES}, got {self.late_limit_samples} and {self.queue_limit_samples}"
            )


@dataclass(slots=True)
class StreamState:
    """Everything of a stream that changes.

    Attributes:
        features: log-mel frames of the present segment of speech.
        activity: where that segment holds speech.
        fade: share of generated mouth of the newest frame.
        generation: of the newest speech; older speech is dropped on arrival.
        position_samples: where the next pushed sample lies on the timeline.
        next_frame: the first frame that is not made yet.
        origin_frame: the frame at which hop 0 of the present segment begins.
        context_frame: the first frame of the context that the session carries;
            None: it carries nothing of use.
        end_frame: one past the last frame, once flushed.
        session: the backend's memory; None before the first face.
        reference: the face that a model with one reference a session refers to.
        last_crop, last_warp, last_affine: the newest generated mouth and face, for fading out.
        finished: frames that wait to be collected.
        hops, late_hops: made through the network, dropped because late.
        closed_frames: frames whose mouth was not generated or faded out, by reason.
    """

    features: FeatureStream
    activity: SpeechActivity
    fade: Fade = field(default_factory=Fade)
    generation: int = 0
    position_samples: int = 0
    next_frame: int = 0
    origin_frame: int = 0
    context_frame: int | None = None
    end_frame: int | None = None
    session: SessionState | None = None
    reference: F32 | None = None
    last_crop: U8 | None = None
    last_warp: SourceWarp | None = None
    last_affine: F32 | None = None
    finished: list[RenderedFrame] = field(default_factory=list)
    hops: int = 0
    late_hops: int = 0
    closed_frames: Counter[ClosedReason] = field(default_factory=Counter)


class Stream:
    """One session over a shared backend.

    Args:
        backend: shared by all streams of a scheduler.
        source: the pictures; not shared.
        options: see `StreamOptions`.

    Attributes:
        state: what changes; read it for metrics, leave it alone otherwise.
    """

    def __init__(
        self,
        backend: Backend,
        source: FaceSource,
        options: StreamOptions | None = None,
    ) -> None:
        self.backend = backend
        self.source = source
        self.options = options or StreamOptions()
        spec = backend.spec
        self.mask = PasteMask.of(
            paste_weights(spec.face, spec.resolution),
            keep_detail=spec.face.paste == "crop_mask",
        )
        self.hop_frames = self.options.hop_frames or spec.hop_frames
        _check_hop(self.hop_frames, spec.window_frames)
        self.state = StreamState(FeatureStream(spec.audio), SpeechActivity())
        self._started = False

    @property
    def position_samples(self) -> int:
        """Where the next pushed sample lies on the timeline of `RenderedFrame.start_sample`."""
        return self.state.position_samples

    @property
    def queued_samples(self) -> int:
        """Sound that has arrived and is not rendered."""
        return max(self.state.position_samples - self.state.next_frame * FRAME_SAMPLES, 0)

    @property
    def done(self) -> bool:
        """Flushed, and every frame was collected."""
        state = self.state
        ended = state.end_frame is not None and state.next_frame >= state.end_frame
        return ended and not state.finished

    def push_audio(self, samples: F32, generation: int = 0) -> None:
        """Takes the next samples of speech; a newer generation interrupts first.

        Args:
            samples: float32 [n], 16 kHz mono, -1..1.
            generation: of this speech; if older than the stream's, it is dropped.

        Raises:
            AudioFormatError: another type or shape, or values that are not finite.
            StreamClosed: after `flush`.
            StreamError: more than `queue_limit_samples` would wait.
        """
        if samples.dtype != np.float32 or samples.ndim != 1:
            raise AudioFormatError(f"expected float32 [n], got {samples.dtype} {samples.shape}")
        if not np.isfinite(samples).all():
            raise AudioFormatError("expected finite samples, got infinity or not-a-number")
        state = self.state
        if state.end_frame is not None:
            raise StreamClosed("audio was pushed after the stream's end")
        if generation < state.generation:
            return
        if generation > state.generation:
            self.interrupt(generation)
        waiting = self.queued_samples + len(samples)
        if self._start() and waiting > self.options.queue_limit_samples:
            raise StreamError(
                f"expected at most {self.options.queue_limit_samples} samples to wait, "
                f"got {waiting}"
            )
        self._extend(samples)
        if not self._start():
            # A camera that is late: keep what its first frames can still ask for.
            state.next_frame = max(0, state.position_samples // FRAME_SAMPLES - WAITING_FRAMES)
            state.features.trim(state.next_frame)

    def push_video(self, picture: Picture, pts_samples: int) -> None:
        """Takes the next picture of a camera.

        Args:
            pts_samples: when it was taken, on the timeline of the sound.

        Raises:
            StreamClosed: after `flush`.
            StreamError: an avatar takes no pictures, or too many wait.
        """
        if self.state.end_frame is not None:
            raise StreamClosed("a picture was pushed after the stream's end")
        self.source.push(picture, pts_samples)

    def interrupt(self, generation: int) -> None:
        """Drops queued speech of generations below; the mouth rests, an avatar's at once.

        What has arrived of a realtime stream becomes silence, so that the timeline does not move
        against the clock; any other stream keeps two frames of silence, in which the mouth fades,
        and cuts the rest out. The frames of that silence are finished at once where the source can
        show them at rest. Those of a realtime stream do not fade: only who plays it knows which
        frame was shown last. Speech goes on at `position_samples`.

        Args:
            generation: of the speech to come; nothing happens if it is not newer.
        """
        state = self.state
        if generation <= state.generation:
            return
        state.generation = generation
        if state.end_frame is not None:
            return
        arrived = self.queued_samples
        rests = self.source.rests_in_silence
        # A camera's pictures lie on the same timeline: it can't be cut.
        cut = rests and not self.options.realtime
        kept = min(arrived, REST_FRAMES * FRAME_SAMPLES) if cut else arrived
        end = state.next_frame * FRAME_SAMPLES + kept
        if rests:
            if self.options.realtime:
                state.fade.level = 0
            first = state.next_frame
            self._finish_resting(range(first, first + kept // FRAME_SAMPLES))
        first = state.next_frame
        state.features = FeatureStream(self.backend.spec.audio, first)
        state.activity = SpeechActivity(first)
        state.position_samples = first * FRAME_SAMPLES
        state.origin_frame = first
        state.context_frame = None
        self._extend(np.zeros(end - state.position_samples, np.float32))

    def flush(self) -> None:
        """Ends the stream: frames up to the last sample become due, the last one padded."""
        state = self.state
        if state.end_frame is not None:
            return
        state.end_frame = frames_of(state.position_samples)
        self.source.end()
        if not self._start() or state.next_frame >= state.end_frame:
            state.next_frame = state.end_frame
            return
        hops = -(-(state.end_frame - state.next_frame) // self.hop_frames)
        last = range(state.next_frame, state.next_frame + hops * self.hop_frames)
        missing = due_sample(last, self.backend.spec.audio) - state.features.end_sample
        silence = np.zeros(max(missing, 0), np.float32)
        state.features.push(silence)
        state.activity.push(silence)

    def change_hop(self, hop_frames: int) -> None:
        """Makes hops of another length from the next one on.

        What is carried stays where the backend's sessions are portable; else it is forgotten.

        Raises:
            ConfigError: a length that the window cannot hold.
        """
        _check_hop(hop_frames, self.backend.spec.window_frames)
        state = self.state
        if state.session is not None:
            state.session = change_hop(self.backend, state.session, hop_frames)
        self.hop_frames = hop_frames
        state.origin_frame = state.next_frame

    def due(self) -> WindowPlan | None:
        """The next hop, if its sound and its pictures have arrived."""
        state = self.state
        if not self._start() or (
            state.end_frame is not None and state.next_frame >= state.end_frame
        ):
            return None
        plan = plan_window(
            (state.next_frame - state.origin_frame) // self.hop_frames,
            self.hop_frames,
            self.backend.spec.window_frames,
            start_frame=state.origin_frame,
            context_start=state.next_frame if state.context_frame is None else state.context_frame,
        )
        if self.overdue_samples(plan) < 0 or not self.source.ready(plan.new):
            return None
        return plan

    def overdue_samples(self, plan: WindowPlan) -> int:
        """Sound that has arrived since `plan` became due; negative: so much is missing."""
        return self.state.features.end_sample - due_sample(plan.new, self.backend.spec.audio)

    def slack_samples(self, plan: WindowPlan) -> int:
        """Sound that will arrive before the hop after `plan` is due too; negative: it is."""
        return len(plan.new) * FRAME_SAMPLES - self.overdue_samples(plan)

    def due_in_time(self, ahead_samples: int = 0) -> WindowPlan | None:
        """The next hop that is due, once a realtime stream that is late has caught up.

        Late hops are dropped whole: they become source frames, and nothing is carried over
        them. One that is late goes on dropping until no whole hop waits, or it would stay late.

        Args:
            ahead_samples: sound that will arrive until a hop that begins now is done: one that
                would be late by then is late.
        """
        plan = self.due()
        if (
            plan is None
            or not self.options.realtime
            or self.state.end_frame is not None
            or self.overdue_samples(plan) + ahead_samples <= self.options.late_limit_samples
        ):
            return plan
        waiting = min(
            self.hop_frames * FRAME_SAMPLES, self.options.late_limit_samples - ahead_samples + 1
        )
        while plan is not None and self.overdue_samples(plan) >= waiting:
            self._drop_hop(plan)
            plan = self.due()
        return plan

    def begin_hop(self, plan: WindowPlan) -> PendingHop:
        """The hop with its faces, its fades and, where a mouth is needed, its log-mel windows."""
        state = self.state
        sources = self.source.take(plan.new)
        cut = max((i for i, source in enumerate(sources) if source.cut), default=-1)
        if cut >= 0:
            state.fade.level = 0
            state.session = state.reference = state.last_affine = None
        factors: list[float] = []
        affines: list[F32 | None] = []
        for index, source in enumerate(sources):
            closed = self._closed(source, plan.new[index], before_cut=index < cut)
            if closed is not None:
                state.closed_frames[closed] += 1
            factor = state.fade.step(closed is None)
            if index < cut:
                affines.append(None)
            elif source.affine is not None:
                state.last_affine = source.affine
                affines.append(source.affine)
            else:  # the face is gone: its last place serves until the mouth has faded
                affines.append(state.last_affine if factor > 0.0 else None)
            factors.append(factor)
        pending = PendingHop(plan, sources, factors, affines, state.generation)
        if not any(factors):
            state.context_frame = None
            return pending
        pending.state = self._enrol()
        pending.mel = state.features.windows(plan.new)
        pending.reference = state.reference
        return pending

    def finish_hop(self, pending: PendingHop, generated: GeneratedHop | None) -> None:
        """Takes the generated faces of a hop that asked for them."""
        state = self.state
        if generated is not None:
            state.hops += 1
            state.reference = pending.reference
            state.last_crop, state.last_warp = generated.crops[-1], generated.warp(-1)
            if state.context_frame is None:
                state.context_frame = pending.plan.new.start
        pictures = paste_hop(pending, generated, self.mask)
        frames = list(zip(pictures, pending.factors, strict=True))
        self._finish(pending.plan.new, frames, pending.generation)

    def collect(self) -> list[RenderedFrame]:
        """The frames finished since the last call, in order."""
        finished, self.state.finished = self.state.finished, []
        return finished

    def _drop_hop(self, plan: WindowPlan) -> None:
        state = self.state
        sources = self.source.take(plan.new)
        state.fade.level = 0
        state.context_frame = None
        state.late_hops += 1
        self._finish(plan.new, [(source.picture, 0.0) for source in sources], state.generation)

    def _start(self) -> bool:
        if not self._started:
            first = self.source.start_frame()
            if first is not None:
                self._started = True
                state = self.state
                state.next_frame = max(first, state.next_frame)
                state.origin_frame = state.next_frame
        return self._started

    def _closed(
        self, source: SourceFrame, frame: int, *, before_cut: bool = False
    ) -> ClosedReason | None:
        """Why the frame's generated mouth is on its way out; None: it is shown."""
        if before_cut:
            return "cut"
        if source.closed is not None:
            return source.closed
        if source.affine is None:
            return "no_face"
        if self.source.rests_in_silence and not self.state.activity.speaking(frame):
            return "silence"
        return None

    def _extend(self, samples: F32) -> None:
        state = self.state
        state.features.push(samples)
        if self.source.rests_in_silence:
            state.activity.push(samples)
        state.position_samples += len(samples)

    def _enrol(self) -> SessionState:
        """The session, made at the first face; it forgets a context that ended earlier."""
        state = self.state
        if state.session is None:
            state.context_frame = None
            state.session = self.backend.new_session(
                hop_frames=self.hop_frames, seed=self.options.seed
            )
        elif state.context_frame is None:
            state.session.reset()
        return state.session

    def _finish_resting(self, frames: range) -> None:
        """Finishes frames that fade to the source's own mouth within REST_FRAMES."""
        state = self.state
        rested: list[tuple[Picture, float]] = []
        for index, source in enumerate(self.source.take(frames)):
            factor = state.fade.factor * max(1.0 - (index + 1) / REST_FRAMES, 0.0)
            if factor > 0.0 and source.affine is not None and state.last_crop is not None:
                picture = paste_crop(
                    source.picture,
                    state.last_crop,
                    self.mask,
                    source.affine,
                    factor,
                    state.last_warp,
                )
                rested.append((picture, factor))
            else:
                rested.append((source.picture, 0.0))
        state.fade.level = 0
        self._finish(frames, rested, state.generation)

    def _finish(
        self, frames: range, pictures: list[tuple[Picture, float]], generation: int
    ) -> None:
        state = self.state
        for index, (picture, synced) in zip(frames, pictures, strict=True):
            if state.end_frame is None or index < state.end_frame:
                start = index * FRAME_SAMPLES
                state.finished.append(RenderedFrame(picture, index, start, generation, synced))
        state.next_frame = frames.stop
        state.features.trim(frames.stop)


def _check_hop(hop_frames: int, window_frames: int) -> None:
    if not 1 <= hop_frames <= window_frames:
        raise ConfigError(f"expected a hop of 1 to {window_frames} frames, got {hop_frames}")
