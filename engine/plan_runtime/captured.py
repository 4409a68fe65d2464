"""Work in one stream that is queued again and again: captured as a CUDA graph, then replayed."""

from __future__ import annotations

import logging
from collections.abc import Callable

from engine.errors import DeviceError
from engine.plan_runtime.cuda_runtime import CudaRuntime

logger = logging.getLogger(__name__)


class CapturedWork:
    """One piece of work on buffers that never move.

    It is done once as it is, because runtimes prepare themselves in a first call, and then
    captured. Where a capture is refused it is queued call by call: slower, with the same results.

    Attributes:
        is_captured: it is replayed as a graph.
    """

    def __init__(
        self, cuda: CudaRuntime, stream: int, name: str, queue: Callable[[], object]
    ) -> None:
        """
        Args:
            name: of the work, for the log.
            queue: queues it; allocates nothing and waits for nothing.

        Raises:
            DeviceError: the device refuses the work itself.
        """
        self._cuda, self._stream, self._queue = cuda, stream, queue
        self._graph: int | None = None
        queue()
        cuda.synchronize(stream)
        try:
            self._graph = self._captured()
        except DeviceError as error:
            logger.warning("%s is not captured as a CUDA graph: %s", name, error)

    @property
    def is_captured(self) -> bool:
        return self._graph is not None

    def run(self) -> None:
        """Queues the work."""
        if self._graph is None:
            self._queue()
        else:
            self._cuda.launch(self._graph, self._stream)

    def release(self) -> None:
        """Gives the graph back."""
        if self._graph is not None:
            self._cuda.destroy_graph(self._graph)
            self._graph = None

    def _captured(self) -> int:
        self._cuda.begin_capture(self._stream)
        try:
            self._queue()
        except BaseException:
            self._abandon()
            raise
        return self._cuda.end_capture(self._stream)

    def _abandon(self) -> None:
        """Leaves a capture that failed, so that the stream can be used again."""
        try:
            self._cuda.destroy_graph(self._cuda.end_capture(self._stream))
        except DeviceError as error:
            logger.debug("the failed capture was already over: %s", error)
