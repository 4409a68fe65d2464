"""What TensorRT-RTX itself makes of the graphs is what the runtime binds.

A machine without NVIDIA's driver builds plans and loads none, so tensors and profiles are read from
the network and the configuration that the compiler is given, when it builds.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from engine.backends.tensorrt_plans import ServedPlans
from engine.errors import BackendError
from engine.plan_runtime.bindings import bindings_of, check_profiles, check_tensors, rings_of
from engine.plan_runtime.hop_way import hop_plans
from engine.plan_runtime.plan_engine import DType, PlanTensor
from engine.spec import ModelSpec
from export.serving_plans import write_serving_graph
from export.tensorrt_builder import build_plan, load_compiler
from tests.tiny_models import TINY_SPEC, make_tiny_model

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for Linux on x86_64 only")

HOP = 4
_DTYPES: dict[str, DType] = {
    "FLOAT": "f32",
    "HALF": "f16",
    "BF16": "bf16",
    "INT64": "i64",
    "UINT8": "u8",
}
WAYS: dict[str, dict[str, Any]] = {
    "causal": {},
    "pinned, guided": {"carry": "pinned", "guidance_scale": 1.5, "window_frames": 6},
    "carried moments": {
        "carry": "carry",
        "unet": dataclasses.replace(TINY_SPEC.unet, per_frame_norm=False),
    },
}


class WatchedBuild:
    """Plans that TensorRT-RTX builds, and what it was given to build them from."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.compiler = load_compiler("tensorrt_rtx")
        self.tensors: list[PlanTensor] = []
        self.rows: list[int] = []
        self._patch = patch

    def build(self, served: ServedPlans, name: str, folder: Path) -> int:
        """Builds a plan; its size in bytes."""
        api = self.compiler.api
        original, create = (
            api.Builder.build_serialized_network,
            api.Builder.create_optimization_profile,
        )
        self.tensors, self.rows = [], []

        def built(builder: Any, network: Any, config: Any) -> Any:
            assert config.num_optimization_profiles == len(self.rows)
            inputs = [network.get_input(index) for index in range(network.num_inputs)]
            outputs = [network.get_output(index) for index in range(network.num_outputs)]
            self.tensors += [_described(tensor, True) for tensor in inputs]
            self.tensors += [_described(tensor, False) for tensor in outputs]
            return original(builder, network, config)

        def profile(builder: Any) -> Any:
            made = create(builder)
            self.rows.append(0)
            return _Profile(made, self.rows)

        with self._patch.context() as patch:
            patch.setattr(api.Builder, "build_serialized_network", built)
            patch.setattr(api.Builder, "create_optimization_profile", profile)
            add = api.IBuilderConfig.add_optimization_profile
            patch.setattr(
                api.IBuilderConfig,
                "add_optimization_profile",
                lambda config, made: add(config, made.profile),
            )
            return len(build_plan(self.compiler, write_serving_graph(served, name, folder)).data)


class _Profile:
    """A profile that notes the rows of its one shape."""

    def __init__(self, profile: Any, rows: list[int]) -> None:
        self.profile, self._rows = profile, rows

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        assert len(set(shapes)) == 1
        assert self._rows[-1] in (0, shapes[0][0])
        self._rows[-1] = shapes[0][0]
        self.profile.set_shape(name, *shapes)


def _described(tensor: Any, is_input: bool) -> PlanTensor:
    assert tensor.shape[0] == -1
    return PlanTensor(tensor.name, _DTYPES[tensor.dtype.name], tuple(tensor.shape)[1:], is_input)


def served_of(folder: Path, way: str, buckets: tuple[int, ...]) -> ServedPlans:
    spec: ModelSpec = make_tiny_model(folder / "model", **WAYS[way])
    return ServedPlans("tensorrt_rtx", folder / "model", spec, HOP, buckets, "f16")


@pytest.mark.parametrize(
    ("way", "buckets"),
    [
        ("causal", (1,)),
        ("pinned, guided", (1,)),
        pytest.param("carried moments", (1, 2, 4), marks=pytest.mark.slow),
    ],
)
def test_a_real_unet_has_the_tensors_and_profiles_that_are_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, buckets: tuple[int, ...]
) -> None:
    served, real = served_of(tmp_path, way, buckets), WatchedBuild(monkeypatch)
    assert real.build(served, "unet", tmp_path) > 10_000
    rings = rings_of(real.tensors)
    assert bool(rings) == (way != "pinned, guided")
    bound = bindings_of(served.spec, HOP, "f16", rings)["unet"]
    check_tensors("unet", bound, real.tensors)
    check_profiles({"unet": real.rows}, served.spec, HOP, buckets)
    assert real.rows == [2 * bucket if "guided" in way else bucket for bucket in buckets]
    with pytest.raises(BackendError, match="plan of unet: expected"):
        check_tensors("unet", bound, real.tensors[1:])
    with pytest.raises(BackendError, match="expected profiles of"):
        check_profiles({"unet": real.rows}, served.spec, HOP, (*buckets, 32))


@pytest.mark.parametrize("name", ["hop_start", "hop_audio", "hop_step"])
def test_what_is_between_the_networks_is_built_for_pinned_and_guided_hops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    way, real = WAYS["pinned, guided"], WatchedBuild(monkeypatch)
    spec = dataclasses.replace(TINY_SPEC, **way)
    served = ServedPlans("tensorrt_rtx", tmp_path, spec, HOP, (1, 2), "f16")  # without weights
    assert name in hop_plans(spec, HOP)
    assert real.build(served, name, tmp_path) > 10_000
    check_tensors(name, bindings_of(spec, HOP, "f16", ())[name], real.tensors)
    check_profiles({name: real.rows}, spec, HOP, (1, 2))
