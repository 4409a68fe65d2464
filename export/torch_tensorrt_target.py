"""Target `torch-tensorrt`: codec and audio encoder through Torch-TensorRT, a program a batch (.ep).

The U-Net is not for it: its rings go through plain TensorRT with our own runtime. A program is
loaded with `torch.export.load` after `import torch_tensorrt`, on the GPU model it was built for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import BackendError
from export.request import Component, ExportRequest, Precision
from export.targets import Built, Report, lacks_f8
from export.torch_program import example_inputs, program_of, ready_network


class TorchTensorRtTarget:
    """Writes programs with TensorRT's plans inside."""

    name = "torch-tensorrt"

    def unavailable(self) -> str | None:
        missing = []
        if not torch.cuda.is_available():
            missing.append(f"torch {torch.__version__} sees no CUDA device")
        if importlib.util.find_spec("torch_tensorrt") is None:
            missing.append("torch_tensorrt is not installed")
        if not missing:
            return None
        return f"{'; '.join(missing)}. On a machine with an NVIDIA GPU: pip install torch-tensorrt"

    def refuses(self, component: Component, precision: Precision) -> str | None:
        if component != "unet":
            return lacks_f8(self.name, precision)
        return (
            "torch-tensorrt takes decoder, encoder and audio; for unet use --target tensorrt, "
            "or aoti"
        )

    def build(self, request: ExportRequest, folder: Path, report: Report) -> Built:
        compiler: Any = importlib.import_module("torch_tensorrt")
        device = torch.device("cuda")
        network = ready_network(request, device)
        programs = {}
        for batch in request.batches:
            report(f"{request.name}: Torch-TensorRT, batch {batch}", 0, 0)
            path = folder / f"{request.name}-b{batch}.ep"
            inputs = example_inputs(network, request, batch, device)
            try:
                program = program_of(network.module, inputs)
                # Types are in the program; plans are kept by us, where they are kept at all.
                compiled = compiler.dynamo.compile(
                    program, arg_inputs=inputs, use_explicit_typing=True
                )
                compiler.save(compiled, str(path), arg_inputs=inputs)
            except Exception as error:  # what its passes raise shares no narrower base
                raise BackendError(f"torch-tensorrt refused {request.name}: {error}") from error
            programs[request.rows(batch)] = path
        version = importlib.metadata.version("torch_tensorrt")
        versions = {"torch": torch.__version__, "torch_tensorrt": version}
        runtime = f"torch_tensorrt {version}, {torch.cuda.get_device_name()}"
        return Built(tuple(programs.values()), runtime, _runner(programs), "", versions)


def _runner(programs: dict[int, Path]) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """Runs the program for as many rows as the inputs have."""

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        module = torch.export.load(programs[len(inputs[0])]).module()
        outputs = module(*(value.cuda() for value in inputs))
        values = [outputs] if isinstance(outputs, Tensor) else [*outputs]
        return [value.cpu() for value in values]

    return run


TARGET = TorchTensorRtTarget()
