"""The engine proper behind the engine process: one backend, one scheduler, many streams."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.avatar import AvatarSource, PreparedAvatar, load_avatar, prepare_avatar
from engine.backends.select import OpenRequest
from engine.camera import CameraSource
from engine.checkpoints import resolve_model
from engine.errors import AvatarError, ConfigError
from engine.face.budget import DetectorBudget
from engine.face.detect import open_detector
from engine.face.track import FaceTracker
from engine.gate import ClosedReason
from engine.media import F32, FRAME_SAMPLES, SAMPLE_RATE_HZ, Picture, RenderedFrame
from engine.pipeline import FaceSource
from engine.scheduler import Scheduler
from engine.spec import ModelSpec
from engine.stream import Stream, StreamOptions
from server.avatars.library import AvatarLibrary
from server.capacity.idle_calibration import HopCosts, IdleCalibration
from server.capacity.machine import HopCost
from server.engine_link.messages import EngineReady, EngineSettings, OpenSession
from server.engine_process.avatar_preparing import AvatarPreparer
from server.engine_process.batch_time import BatchTime
from server.engine_process.calibration import measure_hops
from server.engine_process.core import SessionFrames
from server.engine_process.hop_length import HopLength
from server.engine_process.plan_builder import PlanBuilder, build_command
from server.engine_process.serving_backend import ServingBackend
from server.engine_process.warm_up import warm_hops

logger = logging.getLogger(__name__)

PAUSE_WITHIN_S = 1.0  # until hops become longer amid speech, where nobody waits
WAIT_SAMPLES = FRAME_SAMPLES  # a hop that waits longer than this has no time for others' pauses
PREPARED_AVATARS = 8  # kept in memory, about 80 MB each at 512 px and 8 s


@dataclass(slots=True)
class _Session:
    """A session's stream, and what its gateway was last told of it.

    Attributes:
        lengthen_by: when its hops become longer, in a pause or not; None: they need not.
    """

    stream: Stream
    late_hops: int = 0
    closed_frames: Counter[ClosedReason] = field(default_factory=Counter)
    lengthen_by: float | None = None


class StreamsCore:
    """Runs `engine.stream` for every session over one shared backend."""

    def __init__(self, settings: EngineSettings) -> None:
        folder, run = resolve_model(settings.model), settings.run
        chosen = run.applied(ModelSpec.read(folder))
        self._hop_frames = settings.hop_frames or chosen.hop_frames
        if self._hop_frames > chosen.window_frames:
            raise ConfigError(
                f"expected hop_frames of at most {chosen.window_frames}, got {self._hop_frames}"
            )
        shorter = settings.hop_frames is None
        self._serving = ServingBackend(
            OpenRequest(folder, run.precision, chosen, settings.plans),
            settings.backend,
            lambda backend: warm_hops(backend, self._hop_frames, shorter=shorter),
            lambda candidate: PlanBuilder(
                build_command(settings, candidate), settings.build_timeout_s
            ),
            avoid=settings.avoid,
            longest_build_s=settings.longest_build_s,
            failed_builds=settings.failed_builds,
        )
        self._backend = self._serving.backend
        # Shared by all sessions: it keeps nothing of their pictures, and they are run in turn.
        self._detector = open_detector(folder)
        self._budget = DetectorBudget()
        self._library = AvatarLibrary(settings.avatar_dirs)
        self._calibrate = settings.calibrate
        self._calibration = IdleCalibration(self._hop_costs)
        self._prepare = settings.prepare
        self._prepared: dict[str, PreparedAvatar] = {}
        self._failed: set[str] = set()
        self._preparer = AvatarPreparer(self._backend, self._on_prepared)
        self._scheduler = Scheduler(self._backend)
        self._sessions: dict[str, _Session] = {}
        self._hop_length = HopLength(self._serving.hops_ms)
        self._batch_time = BatchTime()

    def describe(self) -> EngineReady:
        """Prepares the avatars, so that no call waits for it; the network is warm."""
        names = self._prepare
        if names is None:
            names = tuple(info.name for info in self._library.infos())
        for name in names[:PREPARED_AVATARS]:
            try:
                self._avatar(name)
            except AvatarError as error:
                logger.warning("avatar %s left out: %s", name, error)
        if not self._calibrate:
            return self._ready(())
        costs = {length: self._hop_costs(length) for length in self._serving.hops_ms}
        self._calibration.note(costs)
        return self._measured(costs)

    def changed(self) -> EngineReady | None:
        """What is new, where another backend runs or is not to come, or hops cost less or more."""
        ran = self._backend.name
        if self._serving.poll():
            if self._backend.name != ran:
                self._calibration.restart()
                self._set_hop_costs(self._serving.hops_ms)
            return self._ready(())
        if not self._calibrate or self._serving.building:
            return None
        costs = self._calibration.step(len(self._sessions), list(self._serving.hops_ms))
        return None if costs is None else self._measured(costs)

    def stop(self) -> None:
        """Ends the build of a better backend's plans."""
        self._serving.stop()

    def _measured(self, costs: HopCosts) -> EngineReady:
        self._set_hop_costs({length: of[0].wall_ms for length, of in costs.items()})
        return self._ready(tuple(costs[self._hop_frames]))

    def _set_hop_costs(self, costs_ms: Mapping[int, float]) -> None:
        self._hop_length = HopLength(costs_ms)
        self._hop_length.set_streams(len(self._sessions))

    def _ready(self, hop_costs: tuple[HopCost, ...]) -> EngineReady:
        spec, serving = self._backend.spec, self._serving
        hops_ms = dict(serving.hops_ms)
        return EngineReady(
            model=spec.name,
            backend=self._backend.name,
            resolution=spec.resolution,
            hop_frames=self._hop_frames,
            lookahead_samples=spec.audio.lookahead_samples,
            hop_ms=hops_ms.pop(self._hop_frames),
            hop_costs=hop_costs,
            choice=serving.choice,
            shorter_hops_ms=hops_ms,
            plans=serving.plan_counts,
            failed_builds=dict(serving.failed_builds),
        )

    def can_open(self, request: OpenSession) -> bool:
        if request.mode != "avatar":
            return True
        try:
            key, folder = self._avatar_key(request.avatar or "")
        except (AvatarError, OSError):
            return True  # `open` says why not
        if key in self._prepared or key in self._failed:
            return True
        self._preparer.ask(key, folder)
        return False

    def prepare(self) -> float | None:
        return self._preparer.step()

    def open(self, request: OpenSession) -> None:
        spec = self._backend.spec
        source: FaceSource
        if request.mode == "avatar":
            source = AvatarSource(self._avatar(request.avatar or ""), request.first_frame)
        else:
            tracker = FaceTracker(self._detector, self._budget)
            source = CameraSource(spec, tracker, realtime=True)
        self._hop_length.set_streams(len(self._sessions) + 1)
        options = StreamOptions(hop_frames=self._hop_length.frames, seed=request.seed)
        stream = Stream(self._backend, source, options)
        stream.interrupt(request.generation)
        self._scheduler.add(stream)
        self._sessions[request.session] = _Session(stream)

    def push_audio(self, session: str, samples: F32, generation: int) -> None:
        self._sessions[session].stream.push_audio(samples, generation)

    def push_video(self, session: str, picture: Picture, pts_samples: int) -> None:
        self._sessions[session].stream.push_video(picture, pts_samples)

    def interrupt(self, session: str, generation: int) -> Sequence[RenderedFrame]:
        """The frames of sound that has arrived, at rest; none of a camera's."""
        stream = self._sessions[session].stream
        stream.interrupt(generation)
        return stream.collect()

    def close(self, session: str) -> None:
        closed = self._sessions.pop(session, None)
        if closed is not None:
            self._scheduler.remove(closed.stream)
            self._hop_length.set_streams(len(self._sessions))

    def step(self) -> Sequence[SessionFrames]:
        names = {id(session.stream): name for name, session in self._sessions.items()}
        began = time.monotonic()
        ahead_samples = round(self._batch_time.expected_s * SAMPLE_RATE_HZ)
        outputs = self._scheduler.run_due(ahead_samples)
        if outputs:
            took_s = time.monotonic() - began
            self._hop_length.note_work(took_s)
            if outputs[0].batch:
                self._batch_time.note_batch(took_s)
            else:
                self._batch_time.note_drop()
        results = []
        for output in outputs:
            name = names[id(output.stream)]
            state, session = output.stream.state, self._sessions[name]
            if output.error is None:
                self._fit_hop(session)
            results.append(
                SessionFrames(
                    session=name,
                    frames=output.frames,
                    late_hops=state.late_hops - session.late_hops,
                    closed_frames=state.closed_frames - session.closed_frames,
                    error=output.error,
                    next_hop_frames=output.stream.hop_frames,
                    batch=output.batch,
                )
            )
            session.late_hops, session.closed_frames = state.late_hops, state.closed_frames.copy()
        return results

    def _fit_hop(self, session: _Session) -> None:
        """Gives a stream hops of the length of now, longer ones rather in a pause of its mouth.

        Not where a hop waits: short hops of calls that were there first come before the long one of
        a newcomer, and together they may take more than the whole loop.
        """
        stream, frames = session.stream, self._hop_length.frames
        if frames <= stream.hop_frames:
            session.lengthen_by = None
        elif stream.state.fade.factor > 0 and not self._somebody_waits():
            now = time.monotonic()
            if session.lengthen_by is None:
                session.lengthen_by = now + PAUSE_WITHIN_S
            if now < session.lengthen_by:
                return
        if frames != stream.hop_frames:
            logger.info("engine: hops of %d frames, %d calls", frames, len(self._sessions))
            stream.change_hop(frames)

    def _somebody_waits(self) -> bool:
        return self._scheduler.longest_wait_samples() > WAIT_SAMPLES

    def _avatar(self, name: str) -> PreparedAvatar:
        key, folder = self._avatar_key(name)
        self._failed.discard(key)
        prepared = self._prepared.get(key)
        if prepared is None:
            prepared = prepare_avatar(load_avatar(folder), self._backend)
            self._on_prepared(key, prepared)
        return prepared

    def _avatar_key(self, name: str) -> tuple[str, Path]:
        """What an avatar is known by here, and its folder."""
        folder = self._library.get(name).folder
        # An uploaded avatar may be another one of the same name.
        return f"{name} {(folder / 'avatar.json').stat().st_mtime_ns}", folder

    def _on_prepared(self, key: str, prepared: PreparedAvatar | AvatarError) -> None:
        if isinstance(prepared, AvatarError):
            self._failed.add(key)
            return
        logger.info("engine: avatar %s prepared", key.partition(" ")[0])
        if len(self._prepared) >= PREPARED_AVATARS:
            self._prepared.pop(next(iter(self._prepared)))
        self._prepared[key] = prepared

    def _hop_costs(self, hop_frames: int) -> Sequence[HopCost]:
        """What hops cost with all that belongs to them; without an avatar, the network alone."""
        hop_ms = self._serving.hops_ms[hop_frames]
        own_ms = hop_frames * FRAME_SAMPLES * 1000 / SAMPLE_RATE_HZ
        if not self._prepared or hop_ms > own_ms:
            return (HopCost(1, hop_ms, hop_ms),)
        avatar = next(iter(self._prepared.values()))
        return tuple(measure_hops(self._backend, avatar, hop_frames))
