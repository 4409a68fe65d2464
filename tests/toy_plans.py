"""Plans that multiply: nothing is compiled, every step can be watched or made to fail.

    python -m tests.toy_plans FOLDER STOP

opens one in a process of its own. It writes "opening", then "building" or "saving" where STOP
says so and waits there for a line on its standard input, and at the end "built" or "loaded".
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.media import F32
from engine.plans.cache import PlanCache
from engine.plans.key import PlanKey

BLOB_FILE = "factor.bin"
FACTOR = np.arange(1, 1001, dtype=np.float32)


def toy_key(**changed: Any) -> PlanKey:
    """A key with every ingredient, any of them changed."""
    ingredients: dict[str, Any] = {
        "component": "unet",
        "graph_sha256": "1" * 64,
        "weights_sha256": "2" * 64,
        "spec": {"resolution": 128, "timesteps": [999, 499], "carry": "causal"},
        "hop_frames": 4,
        "batch": 1,
        "shapes": {"sample": (1, 13, 4, 16, 16)},
        "precision": "bf16",
        "backend": "toy",
        "versions": {"toy": "1.0", "exporter": "2.13"},
        "device": {"name": "a CPU", "features": "avx2"},
        "flags": {"threads": "1"},
    }
    return PlanKey(**{**ingredients, **changed})


class ToyMaker:
    """Makes plans that are a row of factors, and counts.

    Attributes:
        factor: what is built.
        builds: how often.
        saving: called when half of the blob is written.
    """

    tolerance = 1e-6

    def __init__(self, factor: F32 = FACTOR, saving: Callable[[], object] | None = None) -> None:
        self.factor = factor
        self.builds = 0
        self.saving = saving

    def build(self) -> F32:
        self.builds += 1
        return self.factor

    def save(self, plan: F32, folder: Path) -> None:
        blob = plan.tobytes()
        with (folder / BLOB_FILE).open("wb") as file:
            file.write(blob[: len(blob) // 2])
            file.flush()
            if self.saving is not None:
                self.saving()
            file.write(blob[len(blob) // 2 :])

    def load(self, folder: Path) -> F32:
        return np.frombuffer((folder / BLOB_FILE).read_bytes(), np.float32)

    def golden_inputs(self) -> Mapping[str, F32]:
        return {"x": np.linspace(0, 1, len(self.factor), dtype=np.float32)}

    def run(self, plan: F32, inputs: Mapping[str, F32]) -> Sequence[F32]:
        return [inputs["x"] * plan]


def main(folder: Path, stop: str) -> None:
    """Opens the toy plan of a folder."""

    def tell(word: str) -> None:
        sys.stdout.write(f"{word}\n")
        sys.stdout.flush()

    def wait(word: str) -> None:
        tell(word)
        sys.stdin.readline()

    class StoppingMaker(ToyMaker):
        def build(self) -> F32:
            if stop == "building":
                wait("building")
            return super().build()

    tell("opening")
    saving = (lambda: wait("saving")) if stop == "saving" else None
    opened = PlanCache(folder).open(toy_key(), StoppingMaker(saving=saving))
    tell("loaded" if opened.loaded else "built")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
