"""The engine proper behind the engine process: one backend, one scheduler, many streams."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.avatar import AvatarSource, PreparedAvatar, load_avatar, prepare_avatar
from engine.backends.base import Backend
from engine.backends.select import OpenRequest, choose_backend
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
from server.avatars import AvatarLibrary
from server.capacity import HopCost
from server.engine_calibration import measure_hops
from server.engine_core import SessionFrames
from server.engine_messages import EngineReady, EngineSettings, OpenSession
from server.warm_up import warm_up

logger = logging.getLogger(__name__)

PREPARED_AVATARS = 8  # kept in memory, about 80 MB each at 512 px and 8 s


@dataclass(frozen=True, slots=True)
class _Told:
    """A stream's counts when its session was last told of them."""

    late_hops: int = 0
    closed_frames: Counter[ClosedReason] = field(default_factory=Counter)


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
        self._hop_ms = 0.0
        opened = choose_backend(
            OpenRequest(folder, run.precision, chosen, settings.plans),
            settings.backend,
            avoid=settings.avoid,
            trial=self._try,
        )
        self._backend, self._choice = opened.backend, opened.choice
        # Shared by all sessions: it keeps nothing of their pictures, and they are run in turn.
        self._detector = open_detector(folder)
        self._budget = DetectorBudget()
        self._library = AvatarLibrary(settings.avatar_dirs)
        self._calibrate = settings.calibrate
        self._prepare = settings.prepare
        self._prepared: dict[str, PreparedAvatar] = {}
        self._scheduler = Scheduler(self._backend)
        self._streams: dict[str, Stream] = {}
        self._told: dict[str, _Told] = {}

    def describe(self) -> EngineReady:
        """Prepares the avatars, so that no call waits for it; the network is warm."""
        spec, hop_ms = self._backend.spec, self._hop_ms
        names = self._prepare
        if names is None:
            names = tuple(info.name for info in self._library.infos())
        for name in names[:PREPARED_AVATARS]:
            try:
                self._avatar(name)
            except AvatarError as error:
                logger.warning("avatar %s left out: %s", name, error)
        return EngineReady(
            model=spec.name,
            backend=self._backend.name,
            resolution=spec.resolution,
            hop_frames=self._hop_frames,
            lookahead_samples=spec.audio.lookahead_samples,
            hop_ms=hop_ms,
            hop_costs=self._hop_costs(hop_ms) if self._calibrate else (),
            choice=self._choice,
        )

    def _try(self, backend: Backend) -> None:
        self._hop_ms = warm_up(backend, self._hop_frames)

    def open(self, request: OpenSession) -> None:
        spec = self._backend.spec
        source: FaceSource
        if request.mode == "avatar":
            source = AvatarSource(self._avatar(request.avatar or ""))
        else:
            tracker = FaceTracker(self._detector, self._budget)
            source = CameraSource(spec, tracker, realtime=True)
        options = StreamOptions(hop_frames=self._hop_frames, seed=request.seed)
        stream = Stream(self._backend, source, options)
        stream.interrupt(request.generation)
        self._scheduler.add(stream)
        self._streams[request.session] = stream
        self._told[request.session] = _Told()

    def push_audio(self, session: str, samples: F32, generation: int) -> None:
        self._streams[session].push_audio(samples, generation)

    def push_video(self, session: str, picture: Picture, pts_samples: int) -> None:
        self._streams[session].push_video(picture, pts_samples)

    def interrupt(self, session: str, generation: int, from_frame: int) -> Sequence[RenderedFrame]:
        """The frames from `from_frame` on again, fading to rest; none of a camera's."""
        stream = self._streams[session]
        stream.interrupt(generation, from_frame)
        return stream.collect()

    def close(self, session: str) -> None:
        stream = self._streams.pop(session, None)
        self._told.pop(session, None)
        if stream is not None:
            self._scheduler.remove(stream)

    def step(self) -> Sequence[SessionFrames]:
        names = {id(stream): name for name, stream in self._streams.items()}
        results = []
        for output in self._scheduler.run_due():
            name = names[id(output.stream)]
            state, told = output.stream.state, self._told[name]
            results.append(
                SessionFrames(
                    session=name,
                    frames=output.frames,
                    late_hops=state.late_hops - told.late_hops,
                    closed_frames=state.closed_frames - told.closed_frames,
                    error=output.error,
                )
            )
            self._told[name] = _Told(state.late_hops, state.closed_frames.copy())
        return results

    def _avatar(self, name: str) -> PreparedAvatar:
        folder = self._library.get(name).folder
        # An uploaded avatar may be another one of the same name.
        key = f"{name} {(folder / 'avatar.json').stat().st_mtime_ns}"
        prepared = self._prepared.get(key)
        if prepared is None:
            began = time.monotonic()
            prepared = prepare_avatar(load_avatar(folder), self._backend)
            took_ms = (time.monotonic() - began) * 1000
            logger.info("engine: avatar %s prepared in %.0f ms", name, took_ms)
            if len(self._prepared) >= PREPARED_AVATARS:
                self._prepared.pop(next(iter(self._prepared)))
            self._prepared[key] = prepared
        return prepared

    def _hop_costs(self, hop_ms: float) -> tuple[HopCost, ...]:
        """What hops cost with all that belongs to them; without an avatar, the network alone."""
        own_ms = self._hop_frames * FRAME_SAMPLES * 1000 / SAMPLE_RATE_HZ
        if not self._prepared or hop_ms > own_ms:
            return (HopCost(1, hop_ms, hop_ms),)
        avatar = next(iter(self._prepared.values()))
        return tuple(measure_hops(self._backend, avatar, self._hop_frames))
