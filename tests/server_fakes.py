"""Engine cores that misbehave on cue, and what server tests share.

The engine process imports them by name: `tests.server_fakes:CueCore`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from engine.backends.availability import BackendChoice, PassedOver
from engine.errors import ModelError, StreamError
from engine.media import F32, Picture
from engine.plans.events import PlanEvent
from server.engine_link.messages import EngineReady, EngineSettings, OpenSession
from server.engine_process.core import PassthroughCore, SessionFrames

CRASH = np.full(320, 0.75, np.float32)  # sound that kills the engine process
REFUSE = np.full(320, 0.5, np.float32)  # sound that breaks one stream
POISON = 66  # a picture of this value makes the core raise what nobody foresaw
HANG = np.full(320, 0.25, np.float32)  # sound after which the engine answers no more


class CueCore(PassthroughCore):
    """Passes pictures through until the sound gives it a cue."""

    def push_audio(self, session: str, samples: F32, generation: int) -> None:
        if len(samples) and samples[0] == CRASH[0]:
            os._exit(3)
        if len(samples) and samples[0] == REFUSE[0]:
            raise StreamError("expected better sound")
        if len(samples) and samples[0] == HANG[0]:
            threading.Event().wait()
        super().push_audio(session, samples, generation)

    def push_video(self, session: str, picture: Picture, pts_samples: int) -> None:
        if int(picture.i420[0, 0]) == POISON:
            raise ZeroDivisionError("a poison picture")
        super().push_video(session, picture, pts_samples)


class PreparingCore(CueCore):
    """Calls its model by the avatars that it was told to prepare."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self._named = str(settings.prepare)

    def describe(self) -> EngineReady:
        return dataclasses.replace(super().describe(), model=self._named)


class ProfileCore(PassthroughCore):
    """Passes pictures through and calls every face in them turned away."""

    def step(self) -> Sequence[SessionFrames]:
        return [
            dataclasses.replace(result, closed_frames={"profile": len(result.frames)})
            for result in super().step()
        ]


class BrokenCore(PassthroughCore):
    """Cannot load its model."""

    def describe(self) -> EngineReady:
        raise ModelError("expected a model, found a potato")


class BuildingCore(PassthroughCore):
    """Builds a plan for as long as the file is absent that its model names."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        assert settings.plans is not None and settings.plans.watcher is not None
        settings.plans.watcher(PlanEvent("building", "unet"))
        while not Path(settings.model).exists():
            time.sleep(0.01)
        settings.plans.watcher(PlanEvent("built", "unet"))


class ChoosingCore(CueCore):
    """Runs "fast", or "slow" where "fast" is to be avoided."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        passed = [
            PassedOver(name, "crashed", why, "repair it") for name, why in settings.avoid.items()
        ]
        name = "slow" if "fast" in settings.avoid else "fast"
        self._choice = BackendChoice(name, asked=False, passed=passed)

    def describe(self) -> EngineReady:
        return dataclasses.replace(super().describe(), choice=self._choice)


class DyingCore(PassthroughCore):
    """Dies while it loads."""

    def describe(self) -> EngineReady:
        os._exit(4)


def engine_settings(core: str = "CueCore", avatars: tuple[Path, ...] = ()) -> EngineSettings:
    return EngineSettings(
        core=f"tests.server_fakes:{core}",
        model="none",
        backend="fake",
        hop_frames=1,
        avatar_dirs=avatars,
        log_level="warning",
    )


def shared_blocks() -> set[str]:
    """Blocks of this process in shared memory; other servers may run beside the tests."""
    return {path.name for path in Path("/dev/shm").glob(f"lipwire-{os.getpid()}-*")}


def make_avatar(root: Path, name: str = "ada", frames: int = 10) -> None:
    """An avatar without a face: enough to be shown."""
    folder = root / name
    folder.mkdir(parents=True)
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(frames):
            picture = np.full((48, 64, 3), number * 8, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    points = [[[20, 15], [40, 15], [30, 30]]] * frames
    description = {
        "name": name,
        "title": name.title(),
        "frames": frames,
        "width": 64,
        "height": 48,
        "loop": "pingpong",
        "points": points,
        "reference_frame": 0,
        "licence": "test",
    }
    (folder / "avatar.json").write_text(json.dumps(description), encoding="utf-8")


class PatientCore(CueCore):
    """Opens the stream of an avatar called "slow" when it has been asked twenty times."""

    def __init__(self, settings: EngineSettings) -> None:
        super().__init__(settings)
        self._asked = 0

    def can_open(self, request: OpenSession) -> bool:
        return request.avatar != "slow" or self._asked >= 20

    def prepare(self) -> float | None:
        self._asked += 1
        return 0.001
