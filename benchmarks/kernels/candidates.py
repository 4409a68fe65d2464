"""The candidates for the hop's hot spots, each beside what it would replace, on one set of inputs.

A study is one shape of one layer: a reference in the network's own number format, candidates, and
the truth in f32 (f64 for f32) that all are held against.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TypeVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from benchmarks.kernels import group_norm, temporal_attention
from benchmarks.kernels.fp8_linear import Fp8Linear, fits
from benchmarks.kernels.workloads import AttentionShape, LinearShape, NormShape, Workloads
from engine.denoise.model import TorchModel
from engine.spec import ModelSpec

INPUT_SET_BYTES = 200_000_000  # together, so that no input is found in the cache: L2 is 50 MB
MOST_SETS = 8

Shape = TypeVar("Shape")
Run = Callable[[], Tensor]


@dataclass(frozen=True, slots=True)
class Study:
    """One shape of one layer.

    Attributes:
        count: how often a pass of the U-Net (or a decoding) has it.
        runs: candidate -> the same work on sets of inputs of their own; the first is the
            reference.
        truth: the result on the first set.
        bytes_moved: each input read once and each output written once; None where that is not
            the limit.
        flops: of one call; 0 where bytes are the limit.
        tolerance: largest relative error of a candidate, as root mean squares.
    """

    what: str
    shape: str
    count: int
    runs: Mapping[str, Sequence[Run]]
    truth: Tensor
    bytes_moved: int | None
    flops: int
    tolerance: dict[str, float]


def triton_state(device: torch.device) -> str:
    """Whether Triton's kernels run here: "device", "interpreted" or "absent"."""
    if find_spec("triton") is None:
        return "absent"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "interpreted"
    return "device" if device.type == "cuda" else "absent"


class Studies:
    """Makes the studies of a model.

    Args:
        sessions, hop: the batch.
        shapes: of each kind, so many of those that move or compute most.
        compiled: also torch.compile of every reference.
    """

    def __init__(
        self,
        model: TorchModel,
        spec: ModelSpec,
        *,
        sessions: int,
        hop: int,
        shapes: int,
        compiled: bool,
    ) -> None:
        self._model = model
        self._spec = spec
        self._sessions, self._hop = sessions, hop
        self._context = spec.window_frames - hop
        self._shapes = shapes
        self._compiled = compiled
        self._triton = triton_state(model.device) != "absent"
        self._generator = torch.Generator().manual_seed(0)

    def all(self, loads: Workloads) -> Iterator[Study]:
        """Norms, attentions, linear layers, the decoder."""
        norms = loads.norms.items()
        for norm, count in _largest(norms, lambda s: s.channels * s.size**2, self._shapes):
            yield self.norm(norm, count)
        attentions = loads.attentions.items()
        for attention, count in _largest(attentions, lambda s: s.pixels * s.channels, self._shapes):
            yield self.attention(attention, count)
        linears = [(s, n) for s, n in loads.linears.items() if s.rows > 1]  # not of positions
        for linear, count in _largest(
            linears, lambda s: s.rows * s.inputs * s.outputs, self._shapes
        ):
            yield self.linear(linear, count)
        yield self.decoder()

    def norm(self, shape: NormShape, count: int) -> Study:
        """A pooled GroupNorm with its SiLU, moments carried."""
        frames = self._sessions * self._hop
        size = (frames, shape.channels, shape.size, shape.size)
        element = self._model.dtype.itemsize
        moved = 2 * element * frames * shape.channels * shape.size**2
        weight, bias = self._random(shape.channels), self._random(shape.channels)
        ring = self._random(self._sessions, 2, self._context, shape.groups).float().abs()
        present = torch.ones(self._sessions, self._context + self._hop, device=self._model.device)
        sets = [self._random(*size) for _ in range(self._sets(moved // 2))]

        def runs(call: Callable[..., tuple[Tensor, Tensor]]) -> list[Run]:
            return [lambda x=x: call(x, weight, bias, ring, present)[0] for x in sets]  # type: ignore[misc]

        exact = (t.to(self._exact) for t in (sets[0], weight, bias, ring, present))
        candidates = {"eager": runs(group_norm.reference)}
        if self._compiled:
            candidates["compiled"] = runs(torch.compile(group_norm.reference, dynamic=False))
        if self._triton:
            candidates["triton"] = runs(group_norm.fused)
        return Study(
            "GroupNorm + SiLU with moments",
            f"{frames} x {shape.channels} x {shape.size} x {shape.size}",
            count,
            candidates,
            group_norm.reference(*exact)[0],
            moved,
            0,
            self._tolerances(candidates),
        )

    def attention(self, shape: AttentionShape, count: int) -> Study:
        """Attention over 16 frames, keys and values in a ring."""
        b, h, c, heads = self._sessions, self._hop, self._context, shape.heads
        element = self._model.dtype.itemsize
        frame = shape.pixels * shape.channels
        moved = element * b * frame * (2 * (c + h) + 2 * h)
        places = self._random(3, c + h, shape.channels)
        valid = torch.ones(b, c, device=self._model.device)
        oldest = torch.arange(b, device=self._model.device, dtype=torch.int32) % max(c, 1)
        sets = [
            (
                self._random(b, h, shape.pixels, shape.channels),
                self._random(b, 2, h, shape.pixels, shape.channels),
                self._random(b, 2, c, shape.pixels, shape.channels),
            )
            for _ in range(self._sets(moved))
        ]

        def runs(call: Callable[..., Tensor], *more: object) -> list[Run]:
            return [lambda x=x: call(*x, oldest, valid, places, heads, *more) for x in sets]  # type: ignore[misc]

        q, own, held = (tensor.to(self._exact) for tensor in sets[0])
        candidates = {"eager": runs(temporal_attention.reference)}
        if self._compiled:
            compiled = torch.compile(temporal_attention.reference, dynamic=False)
            candidates["compiled"] = runs(compiled)
        if self._triton:
            from benchmarks.kernels.temporal_attention_triton import TILES

            for tile in TILES:
                name = f"triton {tile[0]}/{tile[1]}"
                candidates[name] = runs(temporal_attention.fused, tile)
        truth = temporal_attention.reference(
            q, own, held, oldest, valid.to(self._exact), places.to(self._exact), heads
        )
        return Study(
            "temporal attention from the ring",
            f"{b} x ({c} + {h}) frames x {shape.pixels} pixels x {shape.channels}",
            count,
            candidates,
            truth,
            moved,
            0,
            self._tolerances(candidates),
        )

    def linear(self, shape: LinearShape, count: int) -> Study:
        """A linear layer, in the network's format and in 8 bits."""
        rows = shape.rows * self._sessions * self._hop
        layer = nn.Linear(shape.inputs, shape.outputs, device=self._model.device)
        with torch.no_grad():
            layer.weight.copy_(self._random(shape.outputs, shape.inputs) / shape.inputs**0.5)
        layer = layer.to(self._model.dtype).requires_grad_(False)
        moved = self._model.dtype.itemsize * rows * (shape.inputs + shape.outputs)
        sets = [self._random(rows, shape.inputs) for _ in range(self._sets(moved))]

        def runs(call: Callable[[Tensor], Tensor]) -> list[Run]:
            return [lambda x=x: call(x) for x in sets]  # type: ignore[misc]

        candidates = {"eager": runs(layer)}
        if fits(layer):
            small = Fp8Linear(layer)
            candidates["fp8"] = runs(small)
            if self._compiled:
                candidates["fp8 compiled"] = runs(torch.compile(small, dynamic=False))
        assert layer.bias is not None
        truth = F.linear(
            sets[0].to(self._exact), layer.weight.to(self._exact), layer.bias.to(self._exact)
        )
        return Study(
            "linear",
            f"{rows} x {shape.inputs} -> {shape.outputs}",
            count,
            candidates,
            truth,
            None,
            2 * rows * shape.inputs * shape.outputs,
            {**self._tolerances(candidates), "fp8": 0.06, "fp8 compiled": 0.06},
        )

    @torch.inference_mode()
    def decoder(self) -> Study:
        """The codec's decoder, channels first and channels last."""
        model, spec = self._model, self._spec
        frames, size = self._sessions * self._hop, spec.latent_size
        latents = self._random(frames, spec.codec.latent_channels, size, size)
        codec = model.codec
        plain = codec.decode
        last = latents.contiguous(memory_format=torch.channels_last)
        weights = [p for p in _parameters(codec) if p.dim() == 4]

        def channels_last(call: Callable[[Tensor], Tensor]) -> Run:
            def run() -> Tensor:
                for weight in weights:  # free once they lie so
                    weight.data = weight.data.contiguous(memory_format=torch.channels_last)
                return call(last)

            return run

        def channels_first(call: Callable[[Tensor], Tensor]) -> Run:
            def run() -> Tensor:
                for weight in weights:
                    weight.data = weight.data.contiguous()
                return call(latents)

            return run

        truth = _exact_decode(model, latents)
        candidates: dict[str, Sequence[Run]] = {
            "eager": [channels_first(plain)],
            "channels last": [channels_last(plain)],
        }
        if self._compiled:
            compiled = torch.compile(plain, dynamic=False)
            candidates["compiled"] = [channels_first(compiled)]
            candidates["compiled, channels last"] = [channels_last(compiled)]
        return Study(
            f"{spec.codec.kind} decoder",
            f"{frames} x {spec.resolution} x {spec.resolution}",
            1,
            candidates,
            truth,
            None,
            0,
            self._tolerances(candidates),
        )

    @property
    def _exact(self) -> torch.dtype:
        return torch.float64 if self._model.dtype == torch.float32 else torch.float32

    def _random(self, *shape: int) -> Tensor:
        values = torch.randn(shape, generator=self._generator)
        return values.to(self._model.device, self._model.dtype)

    def _sets(self, size: int) -> int:
        if self._model.device.type != "cuda":
            return 1
        return max(1, min(MOST_SETS, -(-INPUT_SET_BYTES // max(size, 1))))

    def _tolerances(self, candidates: Iterable[str]) -> dict[str, float]:
        """f32 sums in another order; one rounding to 16 bits and what it is multiplied by."""
        allowed = {torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 2e-2}
        return dict.fromkeys(candidates, allowed[self._model.dtype])


def _largest(
    shapes: Iterable[tuple[Shape, int]],
    work: Callable[[Shape], int],
    count: int,
) -> list[tuple[Shape, int]]:
    return sorted(shapes, key=lambda item: -work(item[0]) * item[1])[:count]


def _parameters(codec: object) -> list[nn.Parameter]:
    assert isinstance(codec, nn.Module)
    return list(codec.parameters())


def _exact_decode(model: TorchModel, latents: Tensor) -> Tensor:
    codec = model.codec
    if model.dtype == torch.float32:
        return codec.decode(latents).clone()
    codec.to(torch.float32)
    truth = codec.decode(latents.float())
    codec.to(model.dtype)
    return truth
