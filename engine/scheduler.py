"""Many streams, one network: gathers the hops that are due and runs them together.

Still no clock: time is the sound that has arrived. A hop's deadline is when the next one of its
stream becomes due; the hop that is nearest to its own goes first, and as many of the same length
as fit go with it. One call runs one batch, so that its caller can listen to the world in between.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from engine.backends.base import Backend, GeneratedHop
from engine.errors import StreamError
from engine.media import RenderedFrame
from engine.pipeline import PendingHop, encode_faces, run_network
from engine.stream import Stream
from engine.windows import WindowPlan

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamOutput:
    """What a call of `run_due` did for one stream.

    Attributes:
        frames: finished, in order and without holes.
        error: what ended the stream; it is no longer scheduled.
        batch: hops of all streams that the network was run for.
    """

    stream: Stream
    frames: list[RenderedFrame]
    error: Exception | None = None
    batch: int = 0


class Scheduler:
    """Runs the due hops of its streams.

    Args:
        backend: the one that all streams were made with.
        max_batch: hops of one call of the network; None: as many as the backend runs well.
    """

    def __init__(self, backend: Backend, *, max_batch: int | None = None) -> None:
        if max_batch is not None and max_batch < 1:
            raise StreamError(f"expected a batch of at least one hop, got {max_batch}")
        self.backend = backend
        self._max_batch = max_batch
        self._streams: list[Stream] = []

    @property
    def max_batch(self) -> int:
        """Hops of one call of the network; the backend may change what it runs well."""
        return self._max_batch or self.backend.max_batch

    def add(self, stream: Stream) -> None:
        """Schedules a stream.

        Raises:
            StreamError: it was made with another backend.
        """
        if stream.backend is not self.backend:
            raise StreamError("expected a stream over the scheduler's own backend")
        self._streams.append(stream)

    def remove(self, stream: Stream) -> None:
        """Forgets a stream; one that is not there is no error."""
        self._streams = [other for other in self._streams if other is not stream]

    def longest_wait_samples(self) -> int:
        """Sound that has arrived since the hop that waits longest became due; 0 where none is."""
        due = [(stream, stream.due()) for stream in self._streams]
        waits = [stream.overdue_samples(plan) for stream, plan in due if plan is not None]
        return max(waits, default=0)

    def run_due(self, ahead_samples: int = 0) -> list[StreamOutput]:
        """Makes one batch of due hops and gives back all frames that are finished.

        An empty list means that nothing was due. What goes wrong with one
        stream comes back as its `error`; the others are not touched.

        Args:
            ahead_samples: sound of each stream that will arrive until the batch is done.
        """
        errors: dict[int, Exception] = {}
        pending = self._begin(errors, ahead_samples)
        asking = [(stream, hop) for stream, hop in pending if hop.state is not None]
        generated = self._run(asking, errors)
        for stream, hop in pending:
            if id(stream) not in errors:
                own = generated.get(id(stream))
                _guarded(stream, errors, partial(stream.finish_hop, hop, own))
        outputs = []
        for stream in self._streams:
            frames, error = stream.collect(), errors.get(id(stream))
            if frames or error is not None:
                outputs.append(StreamOutput(stream, frames, error, len(asking)))
        self._streams = [stream for stream in self._streams if id(stream) not in errors]
        return outputs

    def _begin(
        self, errors: dict[int, Exception], ahead_samples: int
    ) -> list[tuple[Stream, PendingHop]]:
        """Begins the hops of one batch: one hop length, the earliest deadline first."""
        due: list[tuple[int, Stream, WindowPlan]] = []
        for stream in self._streams:
            plan = _guarded(stream, errors, partial(stream.due_in_time, ahead_samples))
            if plan is not None:
                due.append((stream.slack_samples(plan), stream, plan))
        due.sort(key=lambda item: item[0])
        pending: list[tuple[Stream, PendingHop]] = []
        asking = 0
        for _, stream, plan in due:
            if stream.hop_frames != due[0][1].hop_frames:
                continue
            hop = _guarded(stream, errors, partial(stream.begin_hop, plan))
            if hop is None:
                continue
            pending.append((stream, hop))
            asking += hop.state is not None
            if asking == self.max_batch:
                break
        return pending

    def _run(
        self, asking: Sequence[tuple[Stream, PendingHop]], errors: dict[int, Exception]
    ) -> dict[int, GeneratedHop]:
        """The generated faces by stream; a batch that fails is run again one by one.

        What its sessions carry may be half written by then, so that they start from nothing.
        """
        if not asking:
            return {}
        found: dict[int, Exception] = {}
        call = partial(_generate, self.backend, [hop for _, hop in asking])
        hops = _guarded(asking[0][0], found, call)
        if hops is not None:
            return {id(stream): made for (stream, _), made in zip(asking, hops, strict=True)}
        if len(asking) == 1:
            errors.update(found)
            return {}
        alone: dict[int, GeneratedHop] = {}
        for stream, hop in asking:
            if hop.state is not None:
                hop.state.reset()
            alone.update(self._run([(stream, hop)], errors))
        return alone


def _generate(backend: Backend, hops: Sequence[PendingHop]) -> list[GeneratedHop]:
    encode_faces(backend, hops)
    return run_network(backend, hops)


def _guarded(stream: Stream, errors: dict[int, Exception], call: Callable[[], T]) -> T | None:
    """What `call` returns; what it raises is noted as the stream's error."""
    try:
        return call()
    except Exception as error:
        logger.warning("a stream failed", exc_info=error)
        errors[id(stream)] = error
        return None
