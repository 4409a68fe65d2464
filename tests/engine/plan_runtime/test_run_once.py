"""A plan's run for checks gives its graph's own outputs, in every precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.backends.tensorrt_plans import PlanPrecision, ServedPlans
from engine.errors import BackendError
from engine.plan_runtime.plan_engine import PlanEngine
from engine.plan_runtime.run_once import run_once
from export.serving_plans import ServingPlan, write_serving_graph
from tests.fake_cuda import FakeCuda
from tests.fake_tensorrt import FakeTensorRt
from tests.tiny_models import TINY_SPEC


@pytest.mark.parametrize("precision", ["f32", "f16", "bf16"])
@pytest.mark.parametrize("name", ["hop_step", "crop_start"])
def test_its_outputs_are_the_graphs(tmp_path: Path, name: str, precision: PlanPrecision) -> None:
    served = ServedPlans("tensorrt", tmp_path, TINY_SPEC, 4, (1, 2), precision)  # no weights in it
    graph = write_serving_graph(served, name, tmp_path)
    cuda = FakeCuda()
    api = FakeTensorRt(cuda)
    plan = ServingPlan(graph, memoryview(api.plan_of(graph)))
    engine, stream = PlanEngine(api, cuda, plan.data, name), cuda.create_stream()
    inputs = plan.golden_inputs()
    got, want = run_once(engine, cuda, stream, inputs), plan.run(inputs)
    assert got.keys() == want.keys()
    for output, value in want.items():
        assert got[output].dtype == value.dtype == np.float32
        np.testing.assert_array_equal(got[output], value)
    with pytest.raises(BackendError, match="expected inputs"):
        run_once(engine, cuda, stream, dict(list(inputs.items())[1:]))
    assert cuda.held["device"] == cuda.held["pinned"] == 0
