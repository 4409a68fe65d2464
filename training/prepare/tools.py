"""What a process of the preparation works with, from what can be sent to one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2

from engine.face.detect import open_detector
from training.prepare.one_source import Tools
from training.prepare.quality import MeasuredQuality
from training.prepare.sync import SyncJudge


class JudgeOpener(Protocol):
    """Opens a judge of sync in the process that will ask it."""

    def open(self) -> SyncJudge: ...


@dataclass(frozen=True, slots=True)
class ToolPlan:
    """How to open the tools.

    Attributes:
        models: folder with InsightFace's two files; None: OpenCV's cascades.
        sync: None: sound is taken as it is.
    """

    models: Path | None = None
    sync: JudgeOpener | None = None

    def open(self) -> Tools:
        """The tools, each on one thread: processes are the parallel part.

        Threads would also take the cascade's candidates in another order every time.

        Raises:
            ConfigError, ModelError: files that are absent or not what they should be.
        """
        cv2.setNumThreads(1)
        judge = None if self.sync is None else self.sync.open()
        return Tools(open_detector(self.models), MeasuredQuality(), judge)
