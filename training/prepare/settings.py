"""What a run of the preparation is told, and the record of it in the folder that it writes."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from engine.errors import ConfigError
from engine.media import FPS
from training.prepare.files import write_text
from training.prepare.quality import MIN_QUALITY
from training.prepare.sync import MAX_OFFSET_FRAMES

SETTINGS_FILE: Final = "settings.json"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the clips depend on, besides the videos.

    Attributes:
        resolution: pixels a side of a clip.
        shortest_s, longest_s: of a clip.
        smallest_face: pixels of the video that a crop's height must take.
        detector, sync: names of what finds faces and of what judges sync.
        min_confidence, max_offset_frames, min_quality: what is kept.
    """

    resolution: int = 256
    shortest_s: float = 3.0
    longest_s: float = 10.0
    smallest_face: float = 128.0
    detector: str = "cascade"
    sync: str = "none"
    min_confidence: float = 0.0
    max_offset_frames: int = MAX_OFFSET_FRAMES
    min_quality: float = MIN_QUALITY

    def __post_init__(self) -> None:
        if self.resolution < 16 or self.resolution % 2:
            raise ConfigError(f"expected an even resolution from 16 on, got {self.resolution}")
        if not 0 < 2 * self.shortest_s <= self.longest_s:
            raise ConfigError(
                "expected clips whose longest length is at least twice the shortest, got "
                f"{self.shortest_s} to {self.longest_s} s"
            )

    @property
    def shortest_frames(self) -> int:
        return math.ceil(self.shortest_s * FPS)

    @property
    def longest_frames(self) -> int:
        return int(self.longest_s * FPS)

    def claim(self, folder: Path) -> None:
        """Makes the folder one of these settings.

        Raises:
            ConfigError: it holds clips of other settings.
        """
        path = folder / SETTINGS_FILE
        mine = asdict(self)
        if not path.is_file():
            write_text(path, json.dumps(mine, indent=2) + "\n")
            return
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ConfigError(f"{path}: expected the settings of a run, {error}") from error
        if found != mine:
            changed = [
                f"{key} {found.get(key)!r} there, {mine.get(key)!r} now"
                for key in sorted({*found, *mine})
                if found.get(key) != mine.get(key)
            ]
            raise ConfigError(
                f"{folder} holds clips made with other settings ({'; '.join(changed)}): "
                "expected the same, or another folder"
            )
