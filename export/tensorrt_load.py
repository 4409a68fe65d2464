"""Whether this machine loads a plan, and what the runtime says if it does not.

Loading is all that is tried: the plan's tensors are held against the graph's, and nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.plan_runtime.plan_engine import runtime_log
from export.component_graph import ComponentGraph
from export.tensorrt_builder import Compiler, Described, Plan, described


def load_refusal(compiler: Compiler, plan: Plan, graph: ComponentGraph) -> str:
    """Why the plan is of no use on this machine, in the runtime's words; empty where it loads."""
    api, log = compiler.api, runtime_log(compiler.api)
    engine = api.Runtime(log).deserialize_cuda_engine(plan.data)
    if engine is None:
        return " ".join(log.lines) or "the runtime gave no reason"
    modes = api.TensorIOMode
    for mode, tensors in ((modes.INPUT, graph.inputs), (modes.OUTPUT, graph.outputs)):
        wanted, found = list(described(api, tensors)), list(_tensors_of(engine, mode))
        if wanted != found:
            return f"loaded with other {mode.name.lower()}s: expected {wanted}, got {found}"
    if engine.num_optimization_profiles != len(plan.profiles):
        return (
            f"loaded with {engine.num_optimization_profiles} profiles, "
            f"expected {len(plan.profiles)}"
        )
    return ""


def _tensors_of(engine: Any, mode: Any) -> Iterator[Described]:
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        if engine.get_tensor_mode(name) == mode:
            yield name, str(engine.get_tensor_dtype(name)), tuple(engine.get_tensor_shape(name))
