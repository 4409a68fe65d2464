"""A network as torch.export's program, which torch's own compilers take.

Shapes are static, one program a batch: a captured CUDA graph wants them so, and compilers do best.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from export.networks import TORCH_DTYPES, Network, golden_inputs, loaded_network
from export.norms import keep_norms_in_f32
from export.request import ExportRequest


def ready_network(request: ExportRequest, device: torch.device) -> Network:
    """The requested network with its weights, in its precision, on the device.

    Raises:
        ModelError: its weights cannot be read or do not fit.
    """
    network = loaded_network(request)
    dtype = TORCH_DTYPES[request.precision]
    network.module.to(device, dtype)
    if dtype != torch.float32:
        keep_norms_in_f32(network.module, dtype)
    return network


def example_inputs(
    network: Network, request: ExportRequest, batch: int, device: torch.device
) -> tuple[Tensor, ...]:
    """Golden inputs on the device."""
    return tuple(value.to(device) for value in golden_inputs(network, request, batch))


@torch.no_grad()
def program_of(module: nn.Module, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """The program at the inputs' shapes; norms that were cast to f32 stay so."""
    return torch.export.export(module.eval(), inputs)
