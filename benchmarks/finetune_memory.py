"""The memory of a training step, counted without a GPU and without its weights.

The step runs on torch's fake tensors, which have shapes and types but no data: the real modules,
the real losses, autocast in fp16, gradient checkpointing, backward and AdamW. Every
storage that an operation makes is counted from then until the last reference to it is gone, which
is when CUDA's caching allocator would take it back. Not counted, because only a device knows
them: the CUDA context, workspaces of cuDNN and cuBLAS, and the allocator's rounding and gaps.

Attention counts as a fused kernel does: its inputs, its output and a logarithm a row.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.finetune_networks import (
    PUBLISHED_LOSSES,
    LossSizes,
    synthetic_inputs,
    synthetic_networks,
)
from engine.spec import ModelSpec
from training.finetune.configs import FinetuneConfig
from training.finetune.objective import Objective

HALF = torch.float16  # as upstream trains; bf16 is as large
DEVICE = torch.device("cpu")  # builds without CUDA refuse to run backward on fake CUDA tensors


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes of one step.

    Attributes:
        networks: weights of everything that is loaded.
        gradients, optimizer: of the trained parameters.
        peak: the most at any time, all of these included.
        peak_at: the part of the step in which that was.
        parts: the most within each part of the step.
    """

    networks: int
    gradients: int
    optimizer: int
    peak: int
    peak_at: str
    parts: dict[str, int]


class StorageCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operations make, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peaks: dict[str, int] = {}
        self._part = ""
        self._known: set[int] = set()

    def begin(self, part: str) -> None:
        """What is counted from now on is that part's."""
        self._part = part
        self.peaks[part] = max(self.peaks.get(part, 0), self.live)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, FakeTensor) and value.device.type != "meta":
                self._note(value.untyped_storage())
        return result

    def _note(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.live += size
        self.peaks[self._part] = max(self.peaks.get(self._part, 0), self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


class FusedAttention(torch.autograd.Function):
    """What a fused attention kernel makes and keeps; the numbers are not computed."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        rows = torch.empty(q.shape[:-1], dtype=torch.float32, device=q.device)
        ctx.save_for_backward(q, k, v, out, rows)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        q, k, v, _, _ = ctx.saved_tensors
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def step_memory(
    config: FinetuneConfig,
    spec: ModelSpec,
    batch: int = 1,
    *,
    recompute: bool = True,
    sizes: LossSizes = PUBLISHED_LOSSES,
) -> StepMemory:
    """What a step of a configuration takes on a GPU.

    Args:
        spec: of the base model.
        recompute: gradient checkpointing.
        sizes: of the losses' networks.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with fake, _as_on_cuda(), StorageCounter() as counter:
        counter.begin("networks")
        networks = synthetic_networks(config, spec, DEVICE, HALF, sizes)
        held = counter.live
        objective = Objective(config, networks, DEVICE, recompute=recompute)
        optimizer = torch.optim.AdamW(networks.trained.values(), lr=config.learning_rate)
        inputs = synthetic_inputs(objective, batch)

        def predict(*given: Tensor) -> Tensor:
            with torch.autocast(DEVICE.type, HALF):
                predicted: Tensor = networks.unet(*given)
            return predicted

        # AdamW takes its memory at the first step: the second is what a run looks like.
        for _ in range(2):
            counter.begin("forward")
            total = objective.losses(predict, inputs).total
            counter.begin("backward")
            total.backward()  # type: ignore[no-untyped-call]
            counter.begin("optimizer")
            del total
            nn.utils.clip_grad_norm_(networks.trained.values(), config.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
    trained = sum(parameter.numel() for parameter in networks.trained.values()) * 4
    peak_at = max(counter.peaks, key=lambda part: counter.peaks[part])
    return StepMemory(
        held, trained, 2 * trained, counter.peaks[peak_at], peak_at, dict(counter.peaks)
    )


@contextmanager
def _as_on_cuda() -> Iterator[None]:
    """Functions that autocast treats otherwise on CUDA than on a CPU, treated as on CUDA."""

    def attention(q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        assert attn_mask is None  # whole windows in training: all frames see all
        # `engine.models.attention.attend` goes to f32 on a CPU alone.
        halves = [value.to(HALF) for value in (q, k, v)]
        return FusedAttention.apply(*halves)  # type: ignore[no-any-return, no-untyped-call]

    def in_f32(norm: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            # Its input is then another one, and its output twice as large.
            return norm(x.float() if torch.is_autocast_enabled(DEVICE.type) else x, *args, **kwargs)

        return call

    with (
        mock.patch.object(F, "scaled_dot_product_attention", attention),
        mock.patch.object(F, "layer_norm", in_f32(F.layer_norm)),
        mock.patch.object(F, "group_norm", in_f32(F.group_norm)),
    ):
        yield
