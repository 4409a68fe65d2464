"""Which backend runs a model: by name, or the best one that this machine has.

Nothing heavy is imported before it is needed: torch, OpenVINO and onnxruntime
are looked up by their distributions first and imported only when chosen.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from engine.backends.base import Backend
from engine.errors import BackendError, LipwireError
from engine.plans.cache import PlanCache
from engine.spec import ModelSpec

logger = logging.getLogger(__name__)

BackendName = Literal["auto", "torch", "openvino", "onnxruntime", "tensorrt"]
Precision = Literal["f32", "bf16", "f16"]

ONNX_FILES = ("unet.onnx", "codec_encoder.onnx", "codec_decoder.onnx", "audio_encoder.onnx")
SAFETENSORS_FILES = ("unet.safetensors", "codec.safetensors", "audio_encoder.safetensors")

# In the order of preference; torch comes twice, because it is the best choice
# on CUDA and the last resort on a CPU.
_AUTO_ORDER = ("tensorrt", "torch-cuda", "openvino", "onnxruntime", "torch-cpu")


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """Whether one backend can run a model here, and if not, what to do about it.

    Attributes:
        name: as `auto` calls it; what `open_backend` takes is the part before "-".
        usable: everything it needs is there.
        detail: version and device, or what is missing.
        remedy: what to do; empty when usable.
    """

    name: str
    usable: bool
    detail: str
    remedy: str = ""


def _version(distribution: str) -> str | None:
    if importlib.util.find_spec(distribution) is None:
        return None
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


def _missing(folder: Path, files: tuple[str, ...]) -> list[str]:
    return [name for name in files if not (folder / name).is_file()]


def _onnx_status(name: str, model_dir: Path) -> BackendStatus:
    version = _version(name)
    if version is None:
        return BackendStatus(name, False, f"{name} is not installed", f"pip install {name}")
    missing = _missing(model_dir, ONNX_FILES)
    if missing:
        return BackendStatus(
            name,
            False,
            f"{name} {version} found no {', '.join(missing)} in {model_dir}",
            f"python -m export.to_onnx {model_dir}",
        )
    return BackendStatus(name, True, f"{name} {version}, CPU, one thread")


def _torch_status(name: str, model_dir: Path) -> BackendStatus:
    version = _version("torch")
    if version is None:
        detail = "torch is not installed"
        return BackendStatus(name, False, detail, 'pip install -e ".[latentsync]"')
    missing = _missing(model_dir, SAFETENSORS_FILES)
    if missing:
        detail = f"torch {version} found no {', '.join(missing)} in {model_dir}"
        return BackendStatus(name, False, detail, "restore the model folder")
    if name != "torch-cuda":
        return BackendStatus(name, True, f"torch {version}, the reference, slow on a CPU")
    if "+cpu" in version:
        detail = f"torch {version} is built without CUDA"
        return BackendStatus(name, False, detail, "with an NVIDIA GPU, install torch with CUDA")
    if not importlib.import_module("torch").cuda.is_available():
        detail = f"torch {version} sees no CUDA device"
        return BackendStatus(name, False, detail, "with an NVIDIA GPU, check its driver")
    return BackendStatus(name, True, f"torch {version}, CUDA")


def _tensorrt_status() -> BackendStatus:
    version = _version("tensorrt")
    detail = "TensorRT is not installed" if version is None else f"TensorRT {version}"
    return BackendStatus(
        "tensorrt",
        False,
        f"{detail}; this version of Lipwire builds no TensorRT plans yet",
        "with an NVIDIA GPU, use torch with CUDA",
    )


def _status(candidate: str, model_dir: Path) -> BackendStatus:
    if candidate == "tensorrt":
        return _tensorrt_status()
    if candidate.startswith("torch"):
        return _torch_status(candidate, model_dir)
    return _onnx_status(candidate, model_dir)


def describe_backends(model_dir: Path) -> list[BackendStatus]:
    """Every backend in the order in which `auto` tries them; nothing is loaded but torch."""
    return [_status(candidate, model_dir) for candidate in _AUTO_ORDER]


def _open(
    candidate: str,
    model_dir: Path,
    precision: str | None,
    spec: ModelSpec | None,
    plans: PlanCache | None,
) -> Backend:
    if candidate == "openvino":
        from engine.backends import openvino_backend

        return openvino_backend.open_model(model_dir, precision, spec, plans)
    module = importlib.import_module(f"engine.backends.{candidate.split('-')[0]}_backend")
    open_model: Callable[[Path, str | None, ModelSpec | None], Backend] = module.open_model
    return open_model(model_dir, precision, spec)


def open_backend(
    model_dir: Path,
    name: str = "auto",
    precision: str | None = None,
    spec: ModelSpec | None = None,
    plans: PlanCache | None = None,
) -> Backend:
    """The backend that runs the model of a folder.

    Args:
        model_dir: a model folder (`engine.checkpoints.resolve_model` finds it by name).
        name: a backend, or "auto" for the best that works here.
        precision: "f32", "bf16" or "f16"; None leaves it to the backend.
        spec: how the model is run; None: as its folder says.
        plans: where backends that compile keep what they compiled; None: nowhere.

    Raises:
        ConfigError: the folder's `model.json` is absent or wrong.
        BackendError: an unknown name, a backend that is absent or refuses the
            model, or for "auto" no backend at all, with every reason.
    """
    if name not in get_args(BackendName):
        raise BackendError(f"expected a backend of {get_args(BackendName)}, got {name!r}")
    if precision is not None and precision not in get_args(Precision):
        raise BackendError(f"expected a precision of {get_args(Precision)}, got {precision!r}")
    ModelSpec.read(model_dir)
    if name != "auto":
        status = _status(name, model_dir)
        if not status.usable:
            raise BackendError(f"backend {name}: {status.detail}. To do: {status.remedy}.")
        return _open(name, model_dir, precision, spec, plans)
    refused: list[str] = []
    for candidate in _AUTO_ORDER:
        status = _status(candidate, model_dir)
        if not status.usable:
            refused.append(status.detail)
            logger.info("backend %s passed over: %s", candidate, status.detail)
            continue
        try:
            return _open(candidate, model_dir, precision, spec, plans)
        except (LipwireError, ImportError, OSError) as error:
            refused.append(f"{candidate}: {error}")
            logger.warning("backend %s failed, trying the next: %s", candidate, error)
    raise BackendError(f"no backend can run {model_dir}: {'; '.join(refused)}")
