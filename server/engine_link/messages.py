"""What gateway and engine process say to each other.

Both ends are our own processes, so messages are pickled by
`multiprocessing.connection`. Pictures stay in shared memory: a message names
the slot. An input slot belongs to the engine from `PushVideo` to `SlotTaken`,
an output slot to the gateway from `FrameReady` to `ReleaseSlot`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from engine.backends.availability import BackendChoice
from engine.gate import ClosedReason
from engine.plans.cache import PlanCache
from engine.plans.events import PlanEvent
from engine.run_options import RunOptions
from server.capacity.machine import HopCost
from server.engine_link.plan_counts import PlanCounts
from server.logs import LogFormat

Mode = Literal["avatar", "live"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What the engine process loads.

    Attributes:
        core: "module:callable" that builds the engine core from these settings.
        model: name or folder of the model.
        backend: name of the backend, or "auto".
        hop_frames: new frames a call; None: by the load, the model's own at most.
        avatar_dirs: where avatars lie, first match wins.
        run: how the model is run.
        plans: where compiled graphs are kept, or None.
        prepare: avatars to prepare before the first call; None: all.
        calibrate: measure at start what calls cost.
        listen: Unix socket where gateways connect besides the one that starts the engine, in a
            folder that only its user can enter: what comes over it is unpickled.
        avoid: backends that "auto" must not try: name -> why.
        longest_build_s: plans that take longer to build are built beside another backend that
            serves meanwhile; None: the start waits for all.
        failed_builds: backends whose plans could not be built: name -> why.
        build_timeout_s: for all plans that are built at once, here or beside.
    """

    core: str
    model: str
    backend: str
    hop_frames: int | None
    avatar_dirs: tuple[Path, ...]
    log_level: str = "info"
    log_format: LogFormat = "text"
    run: RunOptions = field(default_factory=RunOptions)
    plans: PlanCache | None = None
    prepare: tuple[str, ...] | None = None
    calibrate: bool = False
    listen: Path | None = None
    avoid: Mapping[str, str] = field(default_factory=dict)
    longest_build_s: float | None = None
    failed_builds: Mapping[str, str] = field(default_factory=dict)
    build_timeout_s: float = 3600.0


# --- gateway to engine ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Starts a stream.

    Attributes:
        avatar: name of the avatar, None in live mode.
        block: name of the session's shared memory.
        input_slots, output_slots: input slots come first in the block.
        first_frame: index that the stream's first frame gets.
        seed: of the session's fixed noise.
    """

    session: str
    mode: Mode
    avatar: str | None
    block: str
    slot_bytes: int
    input_slots: int
    output_slots: int
    first_frame: int
    generation: int
    seed: int


@dataclass(frozen=True, slots=True)
class PushAudio:
    """16 kHz mono float32, little endian."""

    session: str
    generation: int
    samples: bytes


@dataclass(frozen=True, slots=True)
class PushVideo:
    """A camera picture with the 16 kHz sample it belongs to."""

    session: str
    slot: int
    width: int
    height: int
    pts_samples: int


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Speech before this is void."""

    session: str
    generation: int


@dataclass(frozen=True, slots=True)
class ReleaseSlot:
    """The gateway has copied an output slot."""

    session: str
    slot: int


@dataclass(frozen=True, slots=True)
class CloseSession:
    session: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a sign of life."""

    stamp: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Ends the process."""


# --- engine to gateway ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EngineReady:
    """The model is loaded and warm; told again whenever any of this changes.

    Attributes:
        hop_frames: frames of the longest hops; how many calls fit is counted with these.
        hop_ms: measured time of one warm hop of that length.
        hop_costs: what hops of calls cost, by batch size; empty where nothing is computed.
        lookahead_samples: sound after a frame's end that the frame needs.
        choice: which backend runs and why; None where none does.
        shorter_hops_ms: measured time of one warm hop of each shorter length that is used while
            few calls are there.
        plans: what happened to compiled graphs in this engine.
        failed_builds: as of the settings, and what failed since.
    """

    model: str
    backend: str
    resolution: int
    hop_frames: int
    lookahead_samples: int
    hop_ms: float
    hop_costs: tuple[HopCost, ...] = ()
    choice: BackendChoice | None = None
    shorter_hops_ms: Mapping[int, float] = field(default_factory=dict)
    plans: PlanCounts = field(default_factory=PlanCounts)
    failed_builds: Mapping[str, str] = field(default_factory=dict)

    @property
    def backend_reason(self) -> str | None:
        """Why this backend runs, in words that end a sentence; None where none does."""
        return None if self.choice is None else self.choice.why

    @property
    def shortest_hop(self) -> tuple[int, float]:
        """Frames and measured time of the hops that a call on an idle engine gets."""
        return min(self.shorter_hops_ms.items(), default=(self.hop_frames, self.hop_ms))


@dataclass(frozen=True, slots=True)
class EngineFailed:
    """The engine cannot start: a model, backend or setting that cannot be used."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SessionOpened:
    session: str


@dataclass(frozen=True, slots=True)
class SessionDeferred:
    """A session whose avatar is still being prepared; it is not open."""

    session: str


@dataclass(frozen=True, slots=True)
class SessionMayOpen:
    """What a deferred session waited for is there: open it where media time stands now."""

    session: str


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """A session that could not be opened or that broke; it is closed."""

    session: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class SlotTaken:
    session: str
    slot: int


@dataclass(frozen=True, slots=True)
class FrameReady:
    """One frame of a hop, in an output slot."""

    slot: int
    index: int
    width: int
    height: int
    generation: int
    synced: float


@dataclass(frozen=True, slots=True)
class HopReady:
    """The frames that became ready together.

    Attributes:
        compute_ms: time of the batch that made them.
        late_hops: hops dropped whole since the last message.
        dropped: frames lost because no output slot was free.
        closed_frames: frames without their generated mouth since the last message, by reason.
        next_hop_frames: length of the session's hops from the next one on; None: as before.
    """

    session: str
    frames: tuple[FrameReady, ...]
    compute_ms: float
    late_hops: int = 0
    dropped: int = 0
    closed_frames: Mapping[ClosedReason, int] = field(default_factory=dict)
    next_hop_frames: int | None = None


@dataclass(frozen=True, slots=True)
class EngineCounts:
    """What an engine process has done since it began.

    Attributes:
        busy_s: time spent computing.
        cpu_s: processor time, of all its threads.
        batches: calls of the network, by how many hops they held.
    """

    busy_s: float = 0.0
    cpu_s: float = 0.0
    batches: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pong:
    """A sign of life.

    Attributes:
        busy: share of the time since the last pong spent computing.
        rss_bytes: resident memory of the process.
    """

    stamp: int
    busy: float
    rss_bytes: int
    sessions: tuple[str, ...] = field(default=())
    counts: EngineCounts = field(default_factory=EngineCounts)


ToEngine = (
    OpenSession | PushAudio | PushVideo | Interrupt | ReleaseSlot | CloseSession | Ping | Stop
)
FromEngine = (
    EngineReady
    | EngineFailed
    | SessionOpened
    | SessionDeferred
    | SessionMayOpen
    | SessionFailed
    | SlotTaken
    | HopReady
    | Pong
    | PlanEvent  # while it starts
)
