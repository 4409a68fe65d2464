"""What the engine process is told, from the server's settings."""

from __future__ import annotations

from pathlib import Path

from server.config import Settings
from server.engine_link.messages import EngineSettings
from server.run_arguments import run_options

LONGEST_WAIT_S = 20.0  # for a plan, at a start: beyond it another backend serves meanwhile


def engine_settings(
    settings: Settings, core: str | None = None, listen: Path | None = None
) -> EngineSettings:
    """The engine's share of the settings.

    Args:
        core: "module:callable" of another engine core than the settings' own.
        listen: where gateways connect besides the process that starts the engine.
    """
    return EngineSettings(
        core=core or settings.engine_core,
        model=settings.model,
        backend=settings.backend,
        hop_frames=settings.hop_frames,
        avatar_dirs=settings.avatar_path,
        log_level=settings.log_level,
        log_format=settings.log_format,
        run=run_options(settings),
        plans=settings.plans,
        calibrate=settings.calibrate,
        listen=listen,
        longest_build_s={"auto": LONGEST_WAIT_S, "wait": None, "background": 0.0}[
            settings.plan_build
        ],
        build_timeout_s=settings.plan_build_timeout_s,
    )
