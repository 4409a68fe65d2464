"""A backend that changes under its sessions: from the one that was ready first to a better one.

Each session moves at its next hop. Where both backends are portable it takes what it carries with
it, and its frames are those of a run that never changed, to the backends' tolerance. Where one of
them is not, it begins afresh on the better one, and one hop is blended from the old frames to the
new.

The better one is on trial for its first hops. One that raises in them is let go: its sessions go
back to where they stood before that hop, and no call notices.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.backends.base import Backend, GeneratedHop, HopInput, SessionState
from engine.backends.portable import PortableBackend, SessionContext, export_context
from engine.errors import BackendError, StreamError
from engine.media import F32, U8

logger = logging.getLogger(__name__)

TRIAL_HOPS = 16  # batches of the better backend; until then the old one stays in memory


@dataclass(slots=True, eq=False, weakref_slot=True)
class SwitchingSession:
    """A session, on whichever backend it runs now.

    Attributes:
        seed: of its noise.
        state: its memory there.
    """

    owner: SwitchingBackend
    hop_frames: int
    seed: int
    backend: Backend
    state: SessionState

    def reset(self) -> None:
        """Forgets the carried context."""
        self.state.reset()


class SwitchingBackend:
    """Runs one backend, and later another.

    Args:
        backend: the one to begin with.

    Attributes:
        failure: why the better backend was let go; None: none was.
    """

    def __init__(self, backend: Backend) -> None:
        self.name, self.spec, self.max_batch = backend.name, backend.spec, backend.max_batch
        self.failure: str | None = None
        self._backend = backend
        self._old: Backend | None = None
        self._trial = 0
        self._sessions: weakref.WeakSet[SwitchingSession] = weakref.WeakSet()

    @property
    def switching(self) -> bool:
        """The better backend is on trial, and the old one still there."""
        return self._old is not None

    def switch_to(self, better: Backend) -> None:
        """Runs a better backend from now on; it is loaded and warm.

        Raises:
            BackendError: it runs another model, or a switch is not over yet.
        """
        if better.spec != self.spec:
            raise BackendError(
                f"expected a backend that runs {self.spec.name} as {self.name} does, got "
                f"{better.name} with {better.spec.name}"
            )
        if self._old is not None:
            raise BackendError(f"expected the switch to {self.name} to be over")
        self._old, self._trial = self._backend, TRIAL_HOPS
        self._use(better)

    def encode(self, crops: U8, *, masked: bool) -> F32:
        """Codec latents [n, C, s, s] of face crops [n, R, R, 3]."""
        if self._old is None:
            return self._backend.encode(crops, masked=masked)
        try:
            return self._backend.encode(crops, masked=masked)
        except Exception as error:  # noqa: BLE001 - on trial, it may raise anything
            self._give_up(error, {})
            return self._backend.encode(crops, masked=masked)

    def new_session(self, *, hop_frames: int, seed: int) -> SwitchingSession:
        """Fresh state for one session."""
        state = self._backend.new_session(hop_frames=hop_frames, seed=seed)
        return self._session(hop_frames, seed, state)

    def export_session(self, state: SessionState) -> SessionContext:
        """What a session carries, copied from the backend that it runs on.

        Raises:
            StreamError: that backend cannot say.
        """
        session = self._own(state)
        context = _exported(session.backend, session.state)
        if context is None:
            raise StreamError(f"sessions of {session.backend.name} stay where they are")
        return context

    def import_session(self, context: SessionContext) -> SwitchingSession:
        """A session that goes on where the context stands, or afresh where it cannot be taken."""
        state = _imported(self._backend, context)
        if state is None:
            return self.new_session(hop_frames=context.hop_frames, seed=context.seed)
        return self._session(context.hop_frames, context.seed, state)

    def warm_up(self, hop_frames: int) -> None:
        """Makes hops of this length ready."""
        self._backend.warm_up(hop_frames)

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        """The generated faces for each input."""
        sessions = [self._own(item.state) for item in batch]
        if self._old is None:
            return self._run(batch, sessions)
        # Where the sessions stand now: a hop that fails half way leaves them anywhere.
        before = {session: self._standing(session) for session in sessions}
        try:
            generated = self._run_on_trial(batch, sessions)
        except Exception as error:  # noqa: BLE001 - on trial, it may raise anything
            self._give_up(error, before)
            return self._run(batch, sessions)
        self._trial -= 1
        if self._trial == 0:
            self._finish()
        return generated

    def _own(self, state: SessionState) -> SwitchingSession:
        if not isinstance(state, SwitchingSession) or state.owner is not self:
            raise StreamError(f"expected a session of this {self.name} backend")
        return state

    def _session(self, hop_frames: int, seed: int, state: SessionState) -> SwitchingSession:
        session = SwitchingSession(self, hop_frames, seed, self._backend, state)
        self._sessions.add(session)
        return session

    def _use(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.max_batch = backend.name, backend.max_batch

    def _run(
        self, batch: Sequence[HopInput], sessions: Sequence[SwitchingSession]
    ) -> list[GeneratedHop]:
        return self._backend.run_hop(
            [
                replace(item, state=session.state)
                for item, session in zip(batch, sessions, strict=True)
            ]
        )

    def _run_on_trial(
        self, batch: Sequence[HopInput], sessions: Sequence[SwitchingSession]
    ) -> list[GeneratedHop]:
        """One batch on the better backend; sessions of the old one move to it."""
        fresh: dict[int, tuple[Backend, SessionState]] = {}
        moved = 0
        for index, session in enumerate(sessions):
            if session.backend is self._backend:
                continue
            moved += 1
            left = session.backend, session.state
            if not self._move(session):
                fresh[index] = left
        generated = self._run(batch, sessions)
        if moved:
            logger.info("%d sessions moved to %s, %d of them without what they carried",
                        moved, self._backend.name, len(fresh))  # fmt: skip
        for index, (old, state) in fresh.items():
            (shown,) = old.run_hop([replace(batch[index], state=state)])
            generated[index] = blend(shown, generated[index])
        return generated

    def _move(self, session: SwitchingSession) -> bool:
        """Moves a session to the backend of now; whether it took along what it carries."""
        context = _exported(session.backend, session.state)
        state = None if context is None else _imported(self._backend, context)
        carried = state is not None
        if state is None:
            state = self._backend.new_session(hop_frames=session.hop_frames, seed=session.seed)
        session.backend, session.state = self._backend, state
        return carried

    def _standing(self, session: SwitchingSession) -> SessionState | SessionContext | None:
        """What brings a session back: its untouched state on the old backend, or a context."""
        if session.backend is self._old:
            return session.state
        return _exported(session.backend, session.state)

    def _give_up(
        self,
        error: Exception,
        before: dict[SwitchingSession, SessionState | SessionContext | None],
    ) -> None:
        """Goes back to the old backend, with every session."""
        old, better = self._old, self._backend
        assert old is not None
        self.failure = f"{better.name} failed in its first hops: {type(error).__name__}: {error}"
        logger.warning("going back to %s: %s", old.name, self.failure, exc_info=error)
        for session in list(self._sessions):
            if session.backend is old:
                continue
            stood = before.get(session)
            if stood is None:
                stood = _exported(better, session.state)
            if isinstance(stood, SessionContext):
                stood = _imported(old, stood)
            if stood is None:
                stood = old.new_session(hop_frames=session.hop_frames, seed=session.seed)
            session.backend, session.state = old, stood
        self._old = None
        self._use(old)

    def _finish(self) -> None:
        """The trial is over: sessions that had no hop in it move too, and the old backend goes."""
        for session in list(self._sessions):
            if session.backend is not self._backend:
                self._move(session)
        self._old = None


def blend(old: GeneratedHop, new: GeneratedHop) -> GeneratedHop:
    """A hop that begins near the old frames and ends near the new ones."""
    count = len(new.crops)
    share = ((np.arange(count, dtype=np.float32) + 1) / (count + 1))[:, None, None, None]
    crops = np.rint(old.crops + share * (new.crops.astype(np.float32) - old.crops))
    warps = new.warps
    if old.warps is not None and new.warps is not None:
        warps = old.warps + share * (new.warps - old.warps)
    return GeneratedHop(crops.astype(np.uint8), warps)


def _exported(backend: Backend, state: SessionState) -> SessionContext | None:
    """What a session carries; None where its backend cannot say."""
    try:
        return export_context(backend, state)
    except Exception as error:  # noqa: BLE001 - of a backend that just failed
        logger.warning("%s gives no session back: %s", backend.name, error)
        return None


def _imported(backend: Backend, context: SessionContext) -> SessionState | None:
    """A session that goes on from a context; None where the backend takes none."""
    if not isinstance(backend, PortableBackend):
        return None
    try:
        return backend.import_session(context)
    except StreamError as error:
        logger.warning("%s takes no session over: %s", backend.name, error)
        return None
