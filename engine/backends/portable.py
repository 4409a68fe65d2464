"""Sessions that move from one backend to another, or to hops of another length, with all that
they carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from engine.backends.base import Backend, SessionState
from engine.carry import HopRings
from engine.errors import StreamError


@dataclass(frozen=True, slots=True)
class SessionContext:
    """What a session carries, in no backend's own form.

    Attributes:
        hop_frames, seed: as it was made with; the seed gives its noise, on every backend the same.
        rings: one set a served timestep, of nobody else.
    """

    hop_frames: int
    seed: int
    rings: Sequence[HopRings]


@runtime_checkable
class PortableBackend(Protocol):
    """A backend whose sessions can come from another one and go to another one."""

    def export_session(self, state: SessionState) -> SessionContext:
        """What a session carries, copied; the session itself is not touched.

        Raises:
            StreamError: this model carries what no context holds.
        """

    def import_session(self, context: SessionContext) -> SessionState:
        """A session that goes on where the context stands; the context is copied.

        Raises:
            StreamError: this model carries something else.
        """


def is_portable(backend: Backend, hop_frames: int) -> bool:
    """Whether sessions of this backend, as its model is run, can be taken elsewhere."""
    return export_context(backend, backend.new_session(hop_frames=hop_frames, seed=0)) is not None


def export_context(backend: Backend, state: SessionState) -> SessionContext | None:
    """What a session carries; None where its backend cannot say."""
    if not isinstance(backend, PortableBackend):
        return None
    try:
        return backend.export_session(state)
    except StreamError:
        return None


def change_hop(backend: Backend, state: SessionState, hop_frames: int) -> SessionState | None:
    """A session that goes on with hops of another length; None where its backend has no way."""
    context = export_context(backend, state)
    if context is None or not isinstance(backend, PortableBackend):
        return None
    rings = [of_step.at_hop(hop_frames) for of_step in context.rings]
    return backend.import_session(replace(context, hop_frames=hop_frames, rings=rings))
