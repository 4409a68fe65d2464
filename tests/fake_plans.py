"""A TensorRT backend on a fake GPU.

gpu = FakeGpu(model_dir, folder, buckets=(1, 2, 4))
backend = gpu.backend()
plans = Machine(gpu, PlanCache(folder)).plans
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.backends.tensorrt_backend import TensorRtBackend
from engine.backends.tensorrt_plans import PlanPrecision, ServedPlans, TensorRtPlans
from engine.plan_runtime.hop_way import plans_of
from engine.plan_runtime.plan_engine import PlanEngine
from engine.plans.cache import PlanCache
from engine.spec import ModelSpec
from export.serving_plans import ServingPlan, write_serving_graph
from export.tensorrt_builder import Graph
from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import FakeTensorRt


class FakeGpu:
    """A model's graphs, and a device to run them on; `fresh` gives another device."""

    def __init__(
        self,
        model: Path,
        folder: Path,
        *,
        buckets: tuple[int, ...] = (1, 2, 4),
        precision: PlanPrecision = "f32",
        hop_frames: int = 4,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.spec = ModelSpec.read(model)
        self.served = ServedPlans("tensorrt", model, self.spec, hop_frames, buckets, precision)
        self.graphs: Mapping[str, Graph] = {
            name: write_serving_graph(self.served, name, folder)
            for name in plans_of(self.spec, hop_frames)
        }
        self.cuda = FakeCuda()
        self.api = FakeTensorRt(self.cuda)

    def fresh(self, **cuda: Any) -> FakeGpu:
        """The same graphs on another device."""
        other = object.__new__(FakeGpu)
        other.__dict__.update(self.__dict__)
        other.cuda = FakeCuda(**cuda)
        other.api = FakeTensorRt(other.cuda)
        return other

    def plans(self, _hop_frames: int) -> dict[str, PlanEngine]:
        """Every plan, loaded."""
        return {
            name: PlanEngine(self.api, self.cuda, self.api.plan_of(graph), name)
            for name, graph in self.graphs.items()
        }

    def backend(self, **spec: Any) -> TensorRtBackend:
        """A backend over the model, run in another way where fields are given."""
        return TensorRtBackend(
            dataclasses.replace(self.spec, **spec),
            self.cuda,
            self.plans,
            name="tensorrt",
            precision=self.served.precision,
            buckets=self.served.buckets,
        )


class Machine:
    """A fake GPU, a plan cache, and a compiler that only notes what it is asked to build."""

    def __init__(self, graphs: FakeGpu, cache: PlanCache | None, **cuda: Any) -> None:
        self.gpu = graphs.fresh(**cuda)
        self.built: list[str] = []
        self.plans = TensorRtPlans(cache, self.gpu.cuda, self.gpu.api, self.build)

    def build(self, served: ServedPlans, name: str) -> ServingPlan:
        self.built.append(name)
        graph = self.gpu.graphs[name]
        return ServingPlan(graph, memoryview(self.gpu.api.plan_of(graph)))
