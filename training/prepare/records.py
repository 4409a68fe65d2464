"""What became of one video, as it is kept on disk until the listing is made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from training.prepare.report import Finding


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """One clip; a line of `clips.jsonl` but for its split.

    Attributes:
        file: relative to the folder that is written.
        offset_frames: by which pictures come after their sound: none is left, see `moved_frames`.
        moved_frames: that the sound was moved by.
        start_s: of the source.
    """

    file: str
    frames: int
    offset_frames: int
    sync_confidence: float
    quality: float
    source: str
    start_s: float
    moved_frames: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of one video.

    Attributes:
        seconds: of pictures that came in.
    """

    source: str
    bytes: int
    seconds: float
    clips: tuple[ClipRecord, ...]
    findings: tuple[Finding, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Prepared:
        data: dict[str, Any] = json.loads(text)
        return cls(
            source=data["source"],
            bytes=data["bytes"],
            seconds=data["seconds"],
            clips=tuple(ClipRecord(**clip) for clip in data["clips"]),
            findings=tuple(Finding(**finding) for finding in data["findings"]),
        )
