"""The sync expert's network: `StableSyncNet` in small, and its file.

LatentSync's architecture and channel order (`engine.models.syncnet`) at a four-hundredth of
its size: mouths of 32 px instead of half faces of 256, 40 mel bands instead of 80.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from engine.errors import ModelError
from engine.media import F32, U8
from engine.models.syncnet import BranchSpec, Factor, StableSyncNet, load_syncnet
from engine.models.weight_files import write_safetensors
from training.dataset import to_tensor
from training.sync_inputs import ROWS_PER_FRAME, sound_windows, stacked

WEIGHTS: Final = Path(__file__).parent / "weights"
WEIGHTS_FILE: Final = "sync_expert.safetensors"
NOTE_FILE: Final = "sync_expert.json"
ACCURACY_FILE: Final = "sync_accuracy.json"

CHANNELS: Final = (32, 32, 64, 64, 96)
_NO_ATTENTION: Final = (False,) * len(CHANNELS)
# How 40 bands by two columns a frame shrink to one.
_AUDIO_FACTORS: Final[dict[int, tuple[Factor, ...]]] = {
    5: (2, 2, 2, (2, 1), (2, 1)),
    8: (2, 2, 2, 2, (2, 1)),
    16: (2, 2, 2, 2, 2),
}
_BATCH: Final = 64


def window_choices() -> tuple[int, ...]:
    """Frames that the network can be made for."""
    return tuple(_AUDIO_FACTORS)


def branch_specs(frames: int) -> tuple[BranchSpec, BranchSpec]:
    """The audio and the visual branch for windows of so many frames.

    Raises:
        ValueError: there is none for so many.
    """
    if frames not in _AUDIO_FACTORS:
        raise ValueError(f"expected windows of {window_choices()} frames, got {frames}")
    audio = BranchSpec(1, CHANNELS, _AUDIO_FACTORS[frames], _NO_ATTENTION)
    visual = BranchSpec(3 * frames, CHANNELS, (2,) * len(CHANNELS), _NO_ATTENTION)
    return audio, visual


@dataclass(frozen=True, slots=True)
class SyncExpert:
    """A trained network that tells how well mouths fit sound.

    Attributes:
        frames: of one window.
    """

    net: StableSyncNet
    frames: int

    def see(self, views: U8) -> F32:
        """[n - frames + 1, D] unit embeddings of every window of views [n, 32, 32, 3]."""
        if len(views) < self.frames:
            return np.zeros((0, CHANNELS[-1]), np.float32)
        pictures = stacked(to_tensor(views).numpy(), self.frames)
        return self._embed(pictures, visual=True)

    def hear(self, rows: F32) -> F32:
        """[n - frames + 1, D] unit embeddings of every window of log-mel rows [2 * n, 40]."""
        if len(rows) < ROWS_PER_FRAME * self.frames:
            return np.zeros((0, CHANNELS[-1]), np.float32)
        return self._embed(sound_windows(rows, self.frames), visual=False)

    @torch.inference_mode()
    def _embed(self, inputs: F32, *, visual: bool) -> F32:
        branch = self.net.visual_encoder if visual else self.net.audio_encoder
        parts = []
        for first in range(0, len(inputs), _BATCH):
            found = branch(torch.from_numpy(inputs[first : first + _BATCH])).flatten(1)
            parts.append(torch.nn.functional.normalize(found, dim=1).numpy())
        return np.concatenate(parts)


def load_expert(folder: Path = WEIGHTS) -> SyncExpert:
    """The expert of a folder, by default the one that comes with the repository.

    Raises:
        ModelError: a file is absent or not what it should be.
        StateDictMismatch: the weights are another network's.
    """
    path = folder / NOTE_FILE
    try:
        frames = int(json.loads(path.read_text(encoding="utf-8"))["frames"])
        specs = branch_specs(frames)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: expected a sync expert's note, {error!r}") from error
    return SyncExpert(load_syncnet(folder / WEIGHTS_FILE, *specs), frames)


def read_accuracy(folder: Path = WEIGHTS) -> dict[str, Any] | None:
    """What `training.sync_accuracy` measured of the folder's expert; None: nothing yet."""
    path = folder / ACCURACY_FILE
    if not path.is_file():
        return None
    report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return report


def save_expert(expert: SyncExpert, folder: Path, note: dict[str, Any]) -> None:
    """Writes the weights as halves, and the note with the window's length."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.half() for key, value in expert.net.state_dict().items()}
    layout = {key: (tuple(value.shape), value.dtype) for key, value in weights.items()}
    write_safetensors(folder / WEIGHTS_FILE, layout, weights.items())
    text = json.dumps({"frames": expert.frames, **note}, indent=1)
    (folder / NOTE_FILE).write_text(text + "\n", encoding="utf-8")
