"""Which backend runs a model: by name, or the best one that this machine has.

Nothing heavy is imported before it is needed: torch, OpenVINO and onnxruntime
are looked up by their distributions first and imported only when chosen.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from engine.backends.availability import (
    Absent,
    Availability,
    BackendChoice,
    NeedsPlan,
    PassedOver,
    Ready,
    nvidia_driver_loaded,
)
from engine.backends.base import Backend
from engine.backends.tensorrt_device import device_availability
from engine.errors import BackendError, ConfigError, PlanMissing
from engine.plan_runtime.plan_engine import ApiName
from engine.plans.cache import PlanCache
from engine.spec import ModelSpec

logger = logging.getLogger(__name__)

BackendName = Literal["auto", "torch", "openvino", "onnxruntime", "tensorrt"]
Precision = Literal["f32", "bf16", "f16"]

ONNX_FILES = ("unet.onnx", "codec_encoder.onnx", "codec_decoder.onnx", "audio_encoder.onnx")
# About how long a cold start compiles: the bundled model's graphs (benchmarks/plan_start.py), and
# a U-Net that TensorRT tunes kernel by kernel (docs/tensorrt.md).
OPENVINO_BUILD_S = 3.0
TENSORRT_BUILD_S = 300.0
SAFETENSORS_FILES = ("unet.safetensors", "codec.safetensors", "audio_encoder.safetensors")


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """What is opened.

    Attributes:
        precision: "f32", "bf16" or "f16"; None leaves it to the backend.
        spec: how the model is run; None: as its folder says.
        plans: where backends that compile keep what they compiled; None: nowhere.
    """

    model_dir: Path
    precision: str | None = None
    spec: ModelSpec | None = None
    plans: PlanCache | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backend as `auto` sees it.

    Attributes:
        name: what `open_backend` takes is the part before "-".
        availability: looks whether it can run the model of a folder here; loads no model.
        open: loads and compiles the model.
        plans: what its plans cost to build; None: it has none. They are opened through the
            request's `PlanCache`, which says what is missing.
    """

    name: str
    availability: Callable[[Path], Availability]
    open: Callable[[OpenRequest], Backend]
    plans: NeedsPlan | None = None


@dataclass(frozen=True, slots=True)
class ChosenBackend:
    """A backend that is open, and why it is this one.

    Attributes:
        awaited: a better candidate, whose plans are to be built; None: there is none.
    """

    backend: Backend
    choice: BackendChoice
    awaited: str | None = None


def _version(distribution: str) -> str | None:
    if importlib.util.find_spec(distribution) is None:
        return None
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


def _missing(folder: Path, files: tuple[str, ...]) -> list[str]:
    return [name for name in files if not (folder / name).is_file()]


def _graphs_availability(name: str, model_dir: Path) -> Availability:
    version = _version(name)
    if version is None:
        return Absent("not_installed", f"{name} is not installed", f"pip install {name}")
    importlib.import_module(name)  # one that is installed may still lack what it links to
    missing = _missing(model_dir, ONNX_FILES)
    if missing:
        detail = f"{name} {version} found no {', '.join(missing)} in {model_dir}"
        return Absent("no_files", detail, f"python -m export.to_onnx {model_dir}")
    return Ready(f"{name} {version}, CPU, one thread")


def _torch_availability(model_dir: Path) -> Availability:
    version = _version("torch")
    if version is None:
        return Absent("not_installed", "torch is not installed", 'pip install -e ".[latentsync]"')
    missing = _missing(model_dir, SAFETENSORS_FILES)
    if missing:
        detail = f"torch {version} found no {', '.join(missing)} in {model_dir}"
        return Absent("no_files", detail, "restore the model folder")
    return Ready(f"torch {version}, the reference, slow on a CPU")


def _cuda_availability(model_dir: Path) -> Availability:
    found = _torch_availability(model_dir)
    if isinstance(found, Absent):
        return found
    version = _version("torch") or ""
    if "+cpu" in version:
        detail = f"torch {version} is built without CUDA"
        return Absent("no_device", detail, "with an NVIDIA GPU, install torch with CUDA")
    if not importlib.import_module("torch").cuda.is_available():
        detail = f"torch {version} sees no CUDA device"
        if nvidia_driver_loaded():
            detail += ", though NVIDIA's driver is loaded"
            return Absent("driver", detail, "nvidia-smi; the driver may be older than torch's CUDA")
        return Absent("no_device", detail, "with an NVIDIA GPU, check its driver")
    return Ready(f"torch {version}, CUDA")


def _tensorrt_availability(package: ApiName, model_dir: Path) -> Availability:
    version = _version(package)
    if version is None:
        extra = package.replace("_", "-")
        return Absent(
            "not_installed", f"{package} is not installed", f'pip install -e ".[{extra},export]"'
        )
    missing = _missing(model_dir, SAFETENSORS_FILES)
    if missing:
        detail = f"{package} {version} found no {', '.join(missing)} in {model_dir}"
        return Absent("no_files", detail, "restore the model folder")
    return device_availability(package, version)


def _open_openvino(request: OpenRequest) -> Backend:
    from engine.backends import openvino_backend

    return openvino_backend.open_model(
        request.model_dir, request.precision, request.spec, request.plans
    )


def _open_onnxruntime(request: OpenRequest) -> Backend:
    from engine.backends import onnxruntime_backend

    return onnxruntime_backend.open_model(request.model_dir, request.precision, request.spec)


def _open_torch(request: OpenRequest) -> Backend:
    from engine.backends import torch_backend

    return torch_backend.open_model(request.model_dir, request.precision, request.spec)


def _open_tensorrt(package: ApiName, request: OpenRequest) -> Backend:
    from engine.backends import tensorrt_backend

    return tensorrt_backend.open_model(
        request.model_dir, package, request.precision, request.spec, request.plans
    )


# The best first; torch comes twice, because it is the best choice on CUDA and the last resort
# on a CPU, and "tensorrt" names whichever of two packages works.
CANDIDATES = (
    Candidate(
        "tensorrt",
        partial(_tensorrt_availability, "tensorrt"),
        partial(_open_tensorrt, "tensorrt"),
        NeedsPlan(TENSORRT_BUILD_S),
    ),
    Candidate(
        "tensorrt-rtx",
        partial(_tensorrt_availability, "tensorrt_rtx"),
        partial(_open_tensorrt, "tensorrt_rtx"),
        NeedsPlan(TENSORRT_BUILD_S),
    ),
    Candidate("torch-cuda", _cuda_availability, _open_torch),
    Candidate(
        "openvino",
        lambda folder: _graphs_availability("openvino", folder),
        _open_openvino,
        NeedsPlan(OPENVINO_BUILD_S),
    ),
    Candidate(
        "onnxruntime", lambda folder: _graphs_availability("onnxruntime", folder), _open_onnxruntime
    ),
    Candidate("torch-cpu", _torch_availability, _open_torch),
)


def describe_backends(model_dir: Path) -> dict[str, Availability]:
    """Every backend, the best first; nothing is loaded but torch."""
    return {item.name: _availability(item, model_dir) for item in CANDIDATES}


def open_backend(
    model_dir: Path,
    name: str = "auto",
    precision: str | None = None,
    spec: ModelSpec | None = None,
    plans: PlanCache | None = None,
) -> Backend:
    """The backend that runs the model of a folder: `choose_backend` without its reasons."""
    return choose_backend(OpenRequest(model_dir, precision, spec, plans), name).backend


def choose_backend(
    request: OpenRequest,
    name: str = "auto",
    *,
    avoid: Mapping[str, str] | None = None,
    trial: Callable[[Backend], object] | None = None,
    longest_build_s: float | None = None,
) -> ChosenBackend:
    """The backend that runs the model of a folder, and why it is that one.

    Args:
        name: a backend, or "auto" for the best that works here.
        avoid: candidates that must not be tried where there are others: name -> why.
        trial: run with a backend that was opened; one that raises in it does not work.
        longest_build_s: plans that take longer to build than this are not waited for: the next
            best runs, also in place of a backend that was named. None: all are waited for.

    Raises:
        ConfigError: the folder's `model.json` is absent or wrong.
        BackendError: an unknown name, a backend that is absent, refuses the model or fails its
            trial, or for "auto" no backend at all, with every reason.
    """
    precision = request.precision
    if name not in get_args(BackendName):
        raise BackendError(f"expected a backend of {get_args(BackendName)}, got {name!r}")
    if precision is not None and precision not in get_args(Precision):
        raise BackendError(f"expected a precision of {get_args(Precision)}, got {precision!r}")
    ModelSpec.read(request.model_dir)
    named = _named(name)
    passed: list[PassedOver] = []
    awaited: str | None = None
    for candidate in [*named, *(item for item in CANDIDATES if item not in named)]:
        if candidate not in named and awaited is None:
            break  # who names one would rather know than get another
        refusal = _refusal(candidate, request, avoid or {})
        if refusal is None:
            try:
                backend = _opened(candidate, request, trial, longest_build_s)
            except PlanMissing as error:
                refusal = _without_plan(candidate, error, first=awaited is None)
                awaited = awaited or candidate.name
            except BackendError as error:
                remedy = "look into the log; lipwire doctor"
                refusal = PassedOver(candidate.name, "failed", str(error), remedy)
            else:
                choice = BackendChoice(candidate.name, name != "auto", tuple(passed))
                return ChosenBackend(backend, choice, awaited)
        if name != "auto" and awaited is None and candidate is named[-1]:
            raise BackendError(f"backend {name}: {refusal.detail}. To do: {refusal.remedy}.")
        level = logging.WARNING if refusal.broken else logging.INFO
        logger.log(level, "backend %s passed over: %s", candidate.name, refusal.detail)
        passed.append(refusal)
    if awaited is not None:
        logger.info("nothing else runs %s: waiting for the plan", request.model_dir)
        return choose_backend(request, name, avoid=avoid, trial=trial)
    reasons = "; ".join(f"{item.name}: {item.detail}" for item in passed)
    raise BackendError(f"no backend can run {request.model_dir}: {reasons}")


def open_candidate(
    name: str, request: OpenRequest, trial: Callable[[Backend], object] | None = None
) -> Backend:
    """One candidate, by its own name, from plans that are there; it was found available before.

    Raises:
        PlanMissing: a plan is still not there.
        BackendError: it refuses the model or fails its trial.
    """
    candidate = next(item for item in CANDIDATES if item.name == name)
    return _opened(candidate, request, trial, longest_build_s=0.0)


def _named(name: str) -> list[Candidate]:
    """The candidates that a name means; "torch" is whichever of the two works."""
    return [item for item in CANDIDATES if name == "auto" or item.name.split("-")[0] == name]


def _without_plan(candidate: Candidate, error: PlanMissing, *, first: bool) -> PassedOver:
    """Why a candidate is passed over whose plan is missing; the best such one is built."""
    if first:
        return PassedOver(candidate.name, "building", str(error), "it takes over when it is built")
    remedy = f"lipwire plans build --backend {candidate.name}"
    return PassedOver(candidate.name, "no_plan", str(error), remedy)


def _refusal(
    candidate: Candidate, request: OpenRequest, avoid: Mapping[str, str]
) -> PassedOver | None:
    """Why a candidate is not even opened; None: it is."""
    if candidate.name in avoid:
        remedy = "repair it and start again, or choose another with --backend"
        return PassedOver(candidate.name, "crashed", avoid[candidate.name], remedy)
    found = _availability(candidate, request.model_dir)
    if isinstance(found, Ready):
        return None
    return PassedOver(candidate.name, found.reason, found.detail, found.remedy)


def _availability(candidate: Candidate, model_dir: Path) -> Availability:
    try:
        return candidate.availability(model_dir)
    except Exception as error:  # noqa: BLE001 - importing a broken library raises anything
        detail = f"looking for it raised {type(error).__name__}: {error}"
        return Absent("driver", detail, "reinstall its library, or check its driver")


def _opened(
    candidate: Candidate,
    request: OpenRequest,
    trial: Callable[[Backend], object] | None,
    longest_build_s: float | None,
) -> Backend:
    """The backend, open and tried.

    Raises:
        ConfigError: a setting that no backend can use.
        PlanMissing: it would have to build plans for longer than that.
        BackendError: anything else; libraries and drivers raise what they like.
    """
    needs, plans = candidate.plans, request.plans
    if needs and plans and longest_build_s is not None and needs.build_s > longest_build_s:
        request = replace(request, plans=plans.loading_only())
    try:
        backend = candidate.open(request)
        if trial is not None:
            trial(backend)
        return backend
    except (BackendError, ConfigError):
        raise
    except Exception as error:
        raise BackendError(f"{type(error).__name__}: {error}") from error
