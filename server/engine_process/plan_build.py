"""Builds the plans of a backend ahead of the server that will use them."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, replace

from engine.backends.base import Backend
from engine.backends.select import OpenRequest, choose_backend
from engine.checkpoints import resolve_model
from engine.errors import ConfigError
from engine.spec import ModelSpec
from server.config import Settings
from server.engine_link.plan_counts import PlanCounter, PlanCounts
from server.engine_process.warm_up import hop_lengths
from server.run_arguments import run_options


@dataclass(frozen=True, slots=True)
class PlanBuild:
    """What is there after a build.

    Attributes:
        backend: whose plans they are.
        folder: where they are.
        size_bytes: of all plans in the folder.
        counts: what was built, and what was there before.
    """

    backend: str
    folder: str
    size_bytes: int
    counts: PlanCounts


def build_plans(settings: Settings) -> PlanBuild:
    """Makes every plan that a server with these settings loads.

    Raises:
        ConfigError: plans are not kept, or the backend has none.
        BackendError: the backend cannot run the model.
        ModelError: there is no such model.
    """
    plans = settings.plans
    if plans is None:
        raise ConfigError("expected a plan cache to build for, and plan_cache is off")
    counter = PlanCounter()
    folder, run = resolve_model(settings.model), run_options(settings)
    spec = run.applied(ModelSpec.read(folder))

    def warm_up(backend: Backend) -> None:
        longest, shorter = settings.hop_frames or spec.hop_frames, settings.hop_frames is None
        for length in hop_lengths(backend, longest, shorter=shorter):
            backend.warm_up(length)

    request = OpenRequest(folder, run.precision, spec, replace(plans, watcher=counter))
    backend = choose_backend(request, settings.backend, trial=warm_up).backend
    if counter.counts == PlanCounts():
        raise ConfigError(f"expected a backend that has plans, and {backend.name} has none")
    return PlanBuild(backend.name, str(plans.folder), plans.size_bytes(), counter.counts)


def end_with_stdin() -> None:
    """Ends this process when its standard input does: whoever holds the other end is gone.

    A build cannot be interrupted from Python; what it leaves half written is never loaded, and
    the next builder clears it.
    """

    def watch() -> None:
        # Not through sys.stdin: an orderly end must not find its lock held.
        while os.read(descriptor, 4096):
            pass
        os._exit(1)

    descriptor = sys.stdin.fileno()
    threading.Thread(target=watch, name="stdin", daemon=True).start()
