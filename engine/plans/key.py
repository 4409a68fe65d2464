"""What a plan depends on: where any of it differs, another plan is built."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.spec import ModelSpec

# Raised when what we hand to a compiler changes though no file of the model does: how inputs are
# named and laid out, what is folded before compilation.
GRAPH_VERSION = 1
# Raised when the files of a plan's folder mean something else.
SCHEMA_VERSION = 1

# The weights' own bytes are hashed, so what `model.json` records of them adds nothing; a name or
# a licence changes no number.
_NOT_SERVED = ("name", "licence", "digests")


def canonical_json(value: object) -> str:
    """The one text of a JSON value: sorted keys, no spaces, ASCII.

    Raises:
        ValueError: it holds a number that JSON has no text for.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def served_spec(spec: ModelSpec) -> dict[str, Any]:
    """Architecture and way of running of a model, as a key holds them."""
    served = dataclasses.asdict(spec)
    for name in _NOT_SERVED:
        del served[name]
    return served


@dataclass(frozen=True, slots=True)
class PlanKey:
    """Everything that a plan depends on.

    Attributes:
        component: the graph, "unet" for example.
        graph_sha256: of the graph's bytes, with the constants in it.
        weights_sha256: of the weights' bytes as they lie on disk, not as recorded.
        spec: from `served_spec`.
        hop_frames: new frames a call; 0 for a component that knows no frames.
        batch: the bucket that it is compiled for.
        shapes: of the inputs, by name.
        precision: what it computes in.
        backend: who compiles it.
        versions: of the compiler and of what wrote the graph: library -> version.
        device: name, capability, driver, memory; of a CPU its features.
        flags: the compiler's settings.
    """

    component: str
    graph_sha256: str
    weights_sha256: str
    spec: Mapping[str, Any]
    hop_frames: int
    batch: int
    shapes: Mapping[str, tuple[int, ...]]
    precision: str
    backend: str
    versions: Mapping[str, str]
    device: Mapping[str, str]
    flags: Mapping[str, str]
    graph_version: int = GRAPH_VERSION
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """The key as JSON holds it: tuples are lists."""
        data: dict[str, Any] = json.loads(canonical_json(dataclasses.asdict(self)))
        return data

    def digest(self) -> str:
        """SHA-256 of the canonical text, in hexadecimal: the name of the plan's folder."""
        return hashlib.sha256(canonical_json(self.to_dict()).encode()).hexdigest()
