"""Published files into modules: every key accounted for, or a sentence that says which is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from engine.models.build import check_shapes
from engine.models.weight_files import WeightFile

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def load_renamed(
    make: Callable[[], ModuleT],
    path: Path,
    renamed: Callable[[str], str] = str,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> ModuleT:
    """What `make` builds, with the weights of a file that has other keys; frozen, in eval mode.

    Args:
        make: called on the meta device, so that memory is taken once.
        renamed: the module's key for one of the file's; "" for a key that is left out on purpose.

    Raises:
        ModelError: the file cannot be read.
        StateDictMismatch: keys or shapes differ after renaming.
    """
    weights = WeightFile(path)
    with torch.device("meta"):
        module = make()
    sources = {renamed(key): key for key in weights.shapes}
    sources.pop("", None)
    have = {key: weights.shapes[source] for key, source in sources.items()}
    keys = list(check_shapes(str(path), module, have))
    tensors = weights.tensors(sources[key] for key in keys)
    loaded = {
        # A copy even where nothing is cast: the mapping of the file is let go of.
        key: value.to(device, dtype, copy=True)
        for key, (_, value) in zip(keys, tensors, strict=True)
    }
    module.load_state_dict(loaded, assign=True)
    return module.eval().requires_grad_(False)
