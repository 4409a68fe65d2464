"""`lipwire plans`: the compiled graphs that are kept on disk, looked at, pruned, built ahead."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engine.plans.cache import PlanCache
from engine.plans.directory import PlanInfo
from server.config import Settings, load_settings
from server.engine_process.plan_build import build_plans, end_with_stdin
from server.run_arguments import add_run_arguments


def add_plans_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `lipwire plans`."""
    parser.add_argument(
        "action",
        choices=["list", "prune", "build"],
        help="prune: remove what killed builders left, damaged plans, and the least recently "
        "used ones above the limit; never what is in use. build: make every plan that "
        "`lipwire serve` would use with the same options, before it starts",
    )
    parser.add_argument("--plans-dir", type=Path, help="another folder than the settings'")
    parser.add_argument(
        "--max-mb", type=int, help="prune: what may stay (the settings' max_plans_mb); 0: nothing"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    building = parser.add_argument_group("build: what for")
    building.add_argument("--config", type=Path, help="a TOML file with settings")
    building.add_argument("--model", help="name or folder of the model (bundled)")
    building.add_argument("--backend", help="auto, openvino or tensorrt (auto)")
    building.add_argument("--hop-frames", type=int, help="new frames a call (the model's own)")
    building.add_argument(
        "--end-with-stdin",
        action="store_true",
        help="give up when standard input ends, as it does when whoever started this is gone",
    )
    add_run_arguments(parser)


def run_plans(arguments: argparse.Namespace) -> int:
    """`lipwire plans` with parsed arguments; returns the exit status."""
    if arguments.action == "build":
        return _build(arguments)
    settings = load_settings(plans_dir=arguments.plans_dir, max_plans_mb=arguments.max_mb)
    cache = PlanCache(settings.plans_path, settings.max_plans_mb << 20)
    plans = cache.prune() if arguments.action == "prune" else cache.plans()
    if arguments.json:
        sys.stdout.write(json.dumps([_entry(info) for info in plans], indent=2) + "\n")
        return 0
    for info in plans:
        sys.stdout.write(_line(info) + "\n")
    total_mb = sum(info.size_bytes for info in plans) / 1e6
    done = "removed from" if arguments.action == "prune" else "in"
    sys.stdout.write(f"{len(plans)} plans, {total_mb:.1f} MB {done} {cache.folder}\n")
    return 0


def _build(arguments: argparse.Namespace) -> int:
    if arguments.end_with_stdin:
        end_with_stdin()
    given = vars(arguments)
    given = {name: given[name] for name in Settings.model_fields if name in given}
    built = build_plans(load_settings(arguments.config, **given, max_plans_mb=arguments.max_mb))
    if arguments.json:
        sys.stdout.write(json.dumps(asdict(built)) + "\n")
        return 0
    counts = built.counts
    sys.stdout.write(
        f"{built.backend}: {counts.built} plans built in {counts.build_s:.1f} s, "
        f"{counts.loaded} were there, {built.size_bytes / 1e6:.1f} MB in {built.folder}\n"
    )
    return 0


def _entry(info: PlanInfo) -> dict[str, Any]:
    return {
        "digest": info.digest,
        "size_bytes": info.size_bytes,
        "used": _moment(info).isoformat(),
        "in_use": info.in_use,
        "problem": info.problem,
        "key": info.key,
    }


def _line(info: PlanInfo) -> str:
    key = info.key
    what = " ".join(
        f"{key.get(name, '-')!s:{width}}"
        for name, width in (("component", 14), ("backend", 10), ("precision", 5), ("batch", 3))
    )
    state = info.problem or ("in use" if info.in_use else "")
    used = f"{_moment(info):%Y-%m-%d %H:%M}"
    return f"{info.digest[:12]}  {what} {info.size_bytes / 1e6:8.1f} MB  {used}  {state}".rstrip()


def _moment(info: PlanInfo) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(info.used_ns // 10**9, datetime.UTC).astimezone()
