"""TensorRT's plans of a model, from the plan cache: built once, checked against onnxruntime.

A plan's golden outputs are not the plan's own: when it is built, onnxruntime runs the graph that it
is built from. So whatever loads it, today or later, is held against another implementation.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from engine.checkpoints import (
    AUDIO_ENCODER_FILE,
    CODEC_FILE,
    TINY_DECODER_FILE,
    UNET_FILE,
    file_digest,
)
from engine.errors import BackendError
from engine.media import F32
from engine.plan_runtime.cuda_runtime import CudaRuntime
from engine.plan_runtime.hop_way import plans_of
from engine.plan_runtime.plan_engine import ApiName, PlanEngine
from engine.plan_runtime.run_once import run_once
from engine.plans.cache import OpenPlan, PlanCache
from engine.plans.folder import Golden
from engine.plans.key import PlanKey, served_spec
from engine.spec import ModelSpec

logger = logging.getLogger(__name__)

PLAN_FILE = "network.plan"
# Of |device - onnxruntime| / |onnxruntime|, output by output. In f16 some hundred layers collect
# three to five roundings of 5e-4 each (`export.component_export`), and both sides do.
# In bf16 a rounding is 4e-3, and the graph itself is computed in f32, by OpenVINO.
PlanPrecision = Literal["f32", "f16", "bf16"]
TOLERANCES: dict[PlanPrecision, float] = {"f32": 1e-3, "f16": 2e-2, "bf16": 6e-2}
AHEAD_OF_TIME = "Ampere and later"  # what TensorRT-RTX builds for on a machine without a GPU

_WEIGHTS = {
    "unet": UNET_FILE,
    "codec_encoder": CODEC_FILE,
    "codec_decoder": CODEC_FILE,
    "audio_encoder": AUDIO_ENCODER_FILE,
}
# What writes the graphs: where any of it changes, they may. Named in text, since `export` imports
# this package and brings torch.
_BUILDER = "export.serving_plans"
_ENGINE_SOURCES = (
    "models",
    "checkpoints.py",
    "face/mask.py",
    "sampler.py",
    "spec.py",
    "plan_runtime/mixing.py",
    "plan_runtime/hop_way.py",
)


class BuiltPlan(Protocol):
    """What the builder gives."""

    @property
    def data(self) -> memoryview:
        """The plan, as its runtime reads it."""

    def golden_inputs(self) -> Mapping[str, F32]:
        """Inputs of its graph, of the smallest batch, in f32."""

    def run(self, inputs: Mapping[str, F32]) -> Mapping[str, F32]:
        """What onnxruntime makes of them with the graph, by name."""


@dataclass(frozen=True, slots=True)
class ServedPlans:
    """What is served, for all plans of it.

    Attributes:
        api_name: whose plans they are.
        buckets: sessions of a call, a profile each.
        precision: of the networks.
    """

    api_name: ApiName
    model_dir: Path
    spec: ModelSpec
    hop_frames: int
    buckets: tuple[int, ...]
    precision: PlanPrecision


Builder = Callable[[ServedPlans, str], BuiltPlan]


class TensorRtPlans:
    """Opens the plans of one model on one device."""

    def __init__(
        self,
        cache: PlanCache | None,
        cuda: CudaRuntime,
        api: Any,
        build: Builder | None = None,
    ) -> None:
        """
        Args:
            cache: where plans are kept; None: they are built at every start.
            api: the package that loads them.
            build: None: `export.serving_plans`, imported when it is needed.
        """
        self._cache, self._cuda, self._api = cache, cuda, api
        self._build = build or _build
        self._in_use: list[OpenPlan[_Plan]] = []
        self._digests: dict[Path, str] = {}

    def open(self, served: ServedPlans) -> dict[str, PlanEngine]:
        """Every plan that serves the hops, loaded and held against its golden outputs.

        Raises:
            BackendError: one cannot be built or loaded, or gives something else on this device.
        """
        stream = self._cuda.create_stream()
        try:
            names = plans_of(served.spec, served.hop_frames)
            return {name: self._open(served, name, stream) for name in names}
        finally:
            self._cuda.destroy_stream(stream)

    def _open(self, served: ServedPlans, name: str, stream: int) -> PlanEngine:
        maker = _PlanMaker(served, name, self._cuda, self._api, stream, self._build)
        if self._cache is None:
            plan = maker.build()
        else:
            opened = self._cache.open(self.key(served, name), maker)
            self._in_use.append(opened)
            plan = opened.plan
        if plan.engine is None:  # built just now: it has not been on the device yet
            plan = maker.checked(plan)
        assert plan.engine is not None
        return plan.engine

    def key(self, served: ServedPlans, name: str) -> PlanKey:
        """What one plan depends on. Its inputs' shapes follow from what is in it."""
        weights = _weights_of(served, name)
        packages = (served.api_name, "torch", "onnx")
        device = self._cuda.device
        return PlanKey(
            component=name,
            graph_sha256=sources_digest(source_roots()),
            weights_sha256="" if weights is None else self._digest(weights),
            spec=served_spec(served.spec),
            hop_frames=served.hop_frames,
            batch=served.buckets[-1],
            shapes={},
            precision=served.precision,
            backend=served.api_name,
            versions={package: _version(package) for package in packages}
            | {"cuda": str(device.runtime // 1000)},
            device={"name": AHEAD_OF_TIME}
            if served.api_name == "tensorrt_rtx"
            else {
                "name": device.name,
                "capability": ".".join(map(str, device.capability)),
                "memory": str(device.memory_bytes),
                "driver": str(device.driver),
            },
            flags={"profiles": ",".join(map(str, served.buckets)), "tf32": "off"},
        )

    def _digest(self, path: Path) -> str:
        if path not in self._digests:
            self._digests[path] = file_digest(path)
        return self._digests[path]


@dataclass(frozen=True, slots=True)
class _Plan:
    """A plan, built or loaded."""

    built: BuiltPlan | None = None
    engine: PlanEngine | None = None


class _PlanMaker:
    """Builds, keeps and loads one plan."""

    def __init__(
        self,
        served: ServedPlans,
        name: str,
        cuda: CudaRuntime,
        api: Any,
        stream: int,
        build: Builder,
    ) -> None:
        self._served, self._name, self._build = served, name, build
        self._cuda, self._api, self._stream = cuda, api, stream
        self._built: BuiltPlan | None = None
        self.tolerance = TOLERANCES[served.precision]

    def build(self) -> _Plan:
        logger.info("building the plan of %s for %s", self._name, self._served.api_name)
        self._built = self._build(self._served, self._name)
        return _Plan(built=self._built)

    def save(self, plan: _Plan, folder: Path) -> None:
        assert plan.built is not None
        (folder / PLAN_FILE).write_bytes(plan.built.data)

    def load(self, folder: Path) -> _Plan:
        return self._loaded((folder / PLAN_FILE).read_bytes())

    def golden_inputs(self) -> Mapping[str, F32]:
        assert self._built is not None
        return self._built.golden_inputs()

    def run(self, plan: _Plan, inputs: Mapping[str, F32]) -> Sequence[F32]:
        if plan.engine is not None:
            outputs: Mapping[str, F32] = run_once(plan.engine, self._cuda, self._stream, inputs)
        else:
            assert plan.built is not None
            outputs = plan.built.run(inputs)
        return [outputs[name] for name in sorted(outputs)]  # both name them, each in its order

    def checked(self, plan: _Plan) -> _Plan:
        """A plan that was built, loaded and held against onnxruntime."""
        assert plan.built is not None
        inputs = plan.built.golden_inputs()
        golden = Golden(inputs, self.run(plan, inputs), self.tolerance)
        loaded = self._loaded(plan.built.data)
        try:
            golden.check(self.run(loaded, inputs))
        except BackendError as error:
            raise BackendError(
                f"plan of {self._name} on {self._cuda.device.name}, against onnxruntime: {error}"
            ) from error
        return loaded

    def _loaded(self, data: bytes | memoryview) -> _Plan:
        return _Plan(engine=PlanEngine(self._api, self._cuda, data, self._name))


def _build(served: ServedPlans, name: str) -> BuiltPlan:
    """The plan, by `export`.

    Raises:
        BackendError: what it needs is not installed, or the compiler refuses the graph.
    """
    try:
        builder: Any = importlib.import_module(_BUILDER)
    except ModuleNotFoundError as error:
        raise BackendError(
            f"there is no plan of {name}, and building one needs {error.name}: "
            'pip install -e ".[export]"'
        ) from error
    built: BuiltPlan = builder.build_serving_plan(served, name)
    return built


def _weights_of(served: ServedPlans, name: str) -> Path | None:
    """The file whose weights are in a plan; None: the plan has none."""
    if name not in _WEIGHTS:
        return None
    tiny = name == "codec_decoder" and served.spec.codec.decoder == "taesd"
    return served.model_dir / (TINY_DECODER_FILE if tiny else _WEIGHTS[name])


def source_roots() -> list[Path]:
    """The files and folders of sources that write the graphs and set the compiler's flags."""
    found = importlib.util.find_spec(_BUILDER.partition(".")[0])
    if found is None or not found.submodule_search_locations:
        raise BackendError(f"expected the package of {_BUILDER}, which is not installed")
    engine = Path(__file__).parents[1]
    return [
        Path(next(iter(found.submodule_search_locations))),
        *(engine / name for name in _ENGINE_SOURCES),
    ]


def sources_digest(roots: Sequence[Path]) -> str:
    """SHA-256 over the sources that write the graphs, in place of the graphs.

    To write a graph takes torch, minutes and gigabytes, and loading a plan should take neither.
    """
    digest = hashlib.sha256()
    for root in roots:
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            digest.update(f"{path.name}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
