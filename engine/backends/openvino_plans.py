"""OpenVINO's compiled graphs as plans.

What `export_model` writes is the graph after OpenVINO's own passes, weights included: importing
it skips reading, reshaping and those passes. Only the kernels are made anew, for the CPU at hand.
"""

from __future__ import annotations

import io
import platform
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import openvino as ov

from engine.checkpoints import AUDIO_ENCODER_FILE, CODEC_FILE, UNET_FILE, file_digest
from engine.cpu import cpu_flags
from engine.errors import BackendError
from engine.media import F32
from engine.plans.cache import OpenPlan, PlanCache
from engine.plans.key import PlanKey, served_spec
from engine.spec import ModelSpec

BLOB_FILE = "compiled.blob"
# A loaded graph gave the same bits as the compiled one wherever that was measured; the room is
# for another order of the same sums, and far below what another graph would give.
TOLERANCE = 1e-4

_WEIGHTS = {
    "unet": UNET_FILE,
    "codec_encoder": CODEC_FILE,
    "codec_decoder": CODEC_FILE,
    "audio_encoder": AUDIO_ENCODER_FILE,
}

Shapes = Mapping[str, tuple[int, ...]]


class OpenVinoPlans:
    """The plans of one model folder on this CPU."""

    def __init__(
        self,
        cache: PlanCache,
        core: ov.Core,
        model_dir: Path,
        spec: ModelSpec,
        settings: Mapping[str, str | int],
    ) -> None:
        """
        Args:
            spec: how the model is run.
            settings: what graphs are compiled with.
        """
        self._cache = cache
        self._core = core
        self._folder = model_dir
        self._spec = served_spec(spec)
        self._settings = dict(settings)
        self._device = {
            "name": str(core.get_property("CPU", "FULL_DEVICE_NAME")),
            "capabilities": " ".join(sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))),
            "machine": platform.machine(),
            "features": " ".join(sorted(cpu_flags())),
        }
        self._digests: dict[str, str] = {}

    def open(
        self, graph: str, shapes: Shapes, compile_graph: Callable[[], ov.CompiledModel]
    ) -> OpenPlan[ov.CompiledModel]:
        """A graph, compiled for these input shapes.

        Raises:
            BackendError: the graph cannot be read or compiled.
        """
        try:
            key = self._key(graph, shapes)
        except OSError as error:
            raise BackendError(f"openvino cannot read {graph}.onnx: {error}") from error
        maker = _GraphMaker(self._core, self._settings, shapes, compile_graph)
        return self._cache.open(key, maker)

    def _key(self, graph: str, shapes: Shapes) -> PlanKey:
        return PlanKey(
            component=graph,
            graph_sha256=self._digest(f"{graph}.onnx"),
            weights_sha256=self._digest(_WEIGHTS[graph]),
            spec=self._spec,
            hop_frames=shapes["sample"][2] if graph == "unet" else 0,
            batch=next(iter(shapes.values()))[0],
            shapes=shapes,
            precision=str(self._settings["INFERENCE_PRECISION_HINT"]),
            backend="openvino",
            versions={"openvino": ov.get_version()},
            device=self._device,
            flags={name: str(value) for name, value in self._settings.items()},
        )

    def _digest(self, name: str) -> str:
        if name not in self._digests:
            self._digests[name] = file_digest(self._folder / name)
        return self._digests[name]


class _GraphMaker:
    """Compiles, exports, imports and runs one graph."""

    tolerance = TOLERANCE

    def __init__(
        self,
        core: ov.Core,
        settings: Mapping[str, str | int],
        shapes: Shapes,
        compile_graph: Callable[[], ov.CompiledModel],
    ) -> None:
        self._core = core
        self._settings = settings
        self._shapes = shapes
        self._compile = compile_graph

    def build(self) -> ov.CompiledModel:
        return self._compile()

    def save(self, plan: ov.CompiledModel, folder: Path) -> None:
        blob = io.BytesIO()
        try:
            plan.export_model(blob)
        except RuntimeError as error:
            raise BackendError(f"openvino cannot export a compiled graph: {error}") from error
        (folder / BLOB_FILE).write_bytes(blob.getbuffer())

    def load(self, folder: Path) -> ov.CompiledModel:
        blob = (folder / BLOB_FILE).read_bytes()
        try:
            return self._core.import_model(blob, "CPU", dict(self._settings))
        except RuntimeError as error:
            raise BackendError(f"openvino cannot import {folder / BLOB_FILE}: {error}") from error

    def golden_inputs(self) -> Mapping[str, F32]:
        """Noise in [0, 1), which is in the range of pictures, latents, rings and masks alike."""
        noise = np.random.default_rng(0)
        return {name: noise.random(shape, np.float32) for name, shape in self._shapes.items()}

    def run(self, plan: ov.CompiledModel, inputs: Mapping[str, F32]) -> list[F32]:
        request = plan.create_infer_request()
        try:
            for name, value in inputs.items():
                request.set_tensor(name, ov.Tensor(value, shared_memory=True))
            request.infer()
        except RuntimeError as error:
            raise BackendError(f"openvino cannot run a compiled graph: {error}") from error
        return [np.array(tensor.data) for tensor in request.output_tensors]
