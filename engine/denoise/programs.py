"""Functions of tensors whose shapes never change: called as they are, or replayed as CUDA graphs.

A captured graph reads its inputs from, and leaves its outputs in, memory that stays where it is.
The discipline holds on any device: `graphs=True` on a CPU runs the function on those same buffers,
which is how it is tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Function = Callable[..., tuple[Tensor, ...]]

WARM_UPS = 2  # before a capture: lazy initialisation and autotuning must be over


class StaticProgram:
    """One function for one set of shapes.

    Args:
        function: of tensors; returns tensors. It must not look at values on the host.
        like: inputs of the right shapes. Warm-up and capture run on zeros instead: the slot 0
            of a pool belongs to no session.
        graph: keep static buffers, and on CUDA capture the function once.
        memory: of a device's graphs, shared because they run one after the other.
    """

    def __init__(
        self,
        function: Function,
        like: Sequence[Tensor],
        *,
        graph: bool,
        memory: Any = None,
    ) -> None:
        self._function = function
        self._inputs = [torch.zeros_like(tensor) for tensor in like] if graph else []
        self._outputs: tuple[Tensor, ...] = ()
        self._graph: torch.cuda.CUDAGraph | None = None
        if graph and like[0].device.type == "cuda":
            self._capture(memory)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The function's outputs; those of a graph are valid until its next call."""
        if not self._inputs:
            return self._function(*inputs)
        for static, given in zip(self._inputs, inputs, strict=True):
            static.copy_(given, non_blocking=True)
        if self._graph is None:
            return self._function(*self._inputs)
        self._graph.replay()
        return self._outputs

    def _capture(self, memory: Any) -> None:
        stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                self._function(*self._inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=memory):
            self._outputs = self._function(*self._inputs)
