"""Target `aoti`: torch's compiler ahead of time, a package a batch (.pt2), for CUDA or this CPU.

A package holds kernels and weights and needs torch, but neither our code nor a compiler, to run:
`torch._inductor.aoti_load_package`. It is bound to the device it was built for.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from engine.errors import BackendError
from export.request import Component, ExportRequest, Precision
from export.targets import Built, Report, lacks_f8
from export.torch_program import example_inputs, program_of, ready_network

COMPILERS = ("g++", "clang++")


class AotiTarget:
    """Writes packages of AOTInductor."""

    name = "aoti"

    def unavailable(self) -> str | None:
        if any(shutil.which(compiler) for compiler in COMPILERS):
            return None
        return f"AOTInductor needs a C++ compiler, {' or '.join(COMPILERS)}; apt install g++"

    def refuses(self, component: Component, precision: Precision) -> str | None:
        return lacks_f8(self.name, precision)

    def build(self, request: ExportRequest, folder: Path, report: Report) -> Built:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = ready_network(request, device)
        packages = {}
        for batch in request.batches:
            report(f"{request.name}: AOTInductor for {device.type}, batch {batch}", 0, 0)
            path = folder / f"{request.name}-b{batch}.pt2"
            inputs = example_inputs(network, request, batch, device)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of torch about its own parts
                    program = program_of(network.module, inputs)
                    torch._inductor.aoti_compile_and_package(program, package_path=str(path))
            except Exception as error:  # what its passes raise shares no narrower base
                raise BackendError(f"AOTInductor refused {request.name}: {error}") from error
            packages[request.rows(batch)] = path
        runtime = f"AOTInductor {torch.__version__}, {device.type}"
        versions = {"torch": torch.__version__}
        return Built(tuple(packages.values()), runtime, _runner(packages, device), "", versions)


def _runner(
    packages: dict[int, Path], device: torch.device
) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """Runs the package for as many rows as the inputs have."""

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        path = packages[len(inputs[0])]
        package = torch._inductor.aoti_load_package(str(path))
        outputs = package(*(value.to(device) for value in inputs))
        values = [outputs] if isinstance(outputs, Tensor) else [*outputs]
        return [value.cpu() for value in values]

    return run


TARGET = AotiTarget()
