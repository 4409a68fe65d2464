"""What a plan cache tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

RejectionReason = Literal["damaged", "refused", "golden", "disk"]


@dataclass(frozen=True, slots=True)
class PlanEvent:
    """One thing that happened to one plan.

    Attributes:
        kind: "loaded" from the disk; "rejected", because it cannot be trusted; "building" and
            "built", around the build of one.
        component: the graph.
        reason: of a rejection: files or manifest are not as they were written ("damaged"), the
            runtime does not take it ("refused"), it no longer gives its golden outputs
            ("golden"), or it cannot be read ("disk").
    """

    kind: Literal["loaded", "rejected", "building", "built"]
    component: str
    reason: RejectionReason | None = None
