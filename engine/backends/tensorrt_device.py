"""Whether the GPU at hand runs plans of TensorRT or TensorRT-RTX, and what to do if not."""

from __future__ import annotations

import importlib.util

from engine.backends.availability import Absent, Availability, Ready, nvidia_driver_loaded
from engine.errors import DeviceError
from engine.plan_runtime.cuda_driver import described_device, load_bindings
from engine.plan_runtime.plan_engine import ApiName

# What TensorRT-RTX 1.7's API lists, without Turing (7.5): one plan fits all of the others, and
# Turing wants one of its own. Hopper (9.0) and the data-centre Blackwells (10.x) are not listed.
RTX_CAPABILITIES = frozenset({(8, 0), (8, 6), (8, 9), (12, 0), (12, 1)})
OLDEST_CAPABILITY = (7, 5)  # TensorRT's own, since 10.0
_EXTRAS: dict[ApiName, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}


def device_availability(api_name: ApiName, version: str) -> Availability:
    """Whether an installed package has a GPU to run plans on; takes none of its memory.

    Args:
        version: of the package.
    """
    package = f"{_EXTRAS[api_name]} {version}"
    if importlib.util.find_spec("cuda") is None:
        remedy = f'pip install -e ".[{_EXTRAS[api_name]}]"'
        return Absent("not_installed", f"{package} without cuda-bindings", remedy)
    try:
        device = described_device(load_bindings())
    except DeviceError as error:
        detail = f"{package} finds no GPU: {error}"
        if nvidia_driver_loaded():
            remedy = "nvidia-smi; the driver may be older than cuda-bindings, which follow CUDA 13"
            return Absent("driver", f"{detail}, though NVIDIA's driver is loaded", remedy)
        return Absent("no_device", detail, "with an NVIDIA GPU, install its driver")
    capability = ".".join(map(str, device.capability))
    found = f"{device.name} (compute capability {capability})"
    if api_name == "tensorrt_rtx" and device.capability not in RTX_CAPABILITIES:
        detail = f"{package} does not run plans for many GPUs on {found}"
        remedy = 'pip install -e ".[tensorrt]", or use torch with CUDA; docs/tensorrt.md'
        return Absent("unsupported", detail, remedy)
    if device.capability < OLDEST_CAPABILITY:
        oldest = ".".join(map(str, OLDEST_CAPABILITY))
        detail = f"{package} wants a GPU of compute capability {oldest} or more, found {found}"
        return Absent("unsupported", detail, "use torch with CUDA")
    return Ready(f"{package}, {found}; plans are built at the first start")
