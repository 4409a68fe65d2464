"""Sessions that move from one backend to another, with all that they carry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from engine.backends.base import SessionState
from engine.carry import HopRings


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
