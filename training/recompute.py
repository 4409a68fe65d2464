"""Gradient checkpointing: layers whose inner activations are computed anew on the way back.

A layer then keeps its inputs only. The networks know nothing of it, so that what is served and
what is trained is one code.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_in_backward(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> int:
    """How many layers of `kinds` in `module` are from now on computed twice.

    Layers must be functions of their arguments: a call that notes something would note it twice.
    A layer inside of another one that is recomputed is left alone.
    """
    found = 0
    for child in module.children():
        if isinstance(child, kinds):
            # No layer here draws random numbers, so their state need not be kept.
            again: Any = partial(
                checkpoint, child.forward, use_reentrant=False, preserve_rng_state=False
            )
            child.forward = again
            found += 1
        else:
            found += recompute_in_backward(child, kinds)
    return found
