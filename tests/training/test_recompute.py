"""Gradient checkpointing: the same numbers, from less memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.recompute import recompute_in_backward


class Layer(nn.Module):
    """Counts how often it is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.tanh(self.linear(x))


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Layer(), nn.Sequential(Layer(), nn.GELU()))


def test_gradients_are_the_same_and_layers_are_computed_twice() -> None:
    plain, thrifty = _network(), _network()
    assert recompute_in_backward(thrifty, (Layer,)) == 2
    x = torch.randn(3, 4)
    for network in (plain, thrifty):
        network(x).square().sum().backward()
    for ours, theirs in zip(thrifty.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)  # type: ignore[arg-type]
    assert [layer.calls for layer in thrifty.modules() if isinstance(layer, Layer)] == [2, 2]
    assert list(thrifty.state_dict()) == list(plain.state_dict())


def test_without_gradients_a_layer_is_computed_once() -> None:
    network = _network()
    recompute_in_backward(network, (Layer,))
    with torch.no_grad():
        network(torch.randn(1, 4))
    assert [layer.calls for layer in network.modules() if isinstance(layer, Layer)] == [1, 1]
