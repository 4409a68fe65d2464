"""The arguments of `lipwire serve` and `lipwire render` that say how the model is run."""

from __future__ import annotations

import argparse
import dataclasses
from typing import get_args

from engine.run_options import RunOptions
from engine.spec import CarryMode, ReferenceMode, StartMode
from server.config import Settings

RUN_FIELDS = tuple(field.name for field in dataclasses.fields(RunOptions))


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds them; each is the model's own where it is not given."""
    group = parser.add_argument_group("how the model is run (its own way by default)")
    group.add_argument("--window-mode", choices=get_args(CarryMode), help="how hops are joined")
    group.add_argument("--steps", type=int, help="denoising steps")
    group.add_argument(
        "--start", choices=get_args(StartMode), help="what the first step starts from"
    )
    group.add_argument(
        "--refresh-hops", type=int, help="mode carry: hops between two computed whole, 0 never"
    )
    group.add_argument(
        "--reference", choices=get_args(ReferenceMode), help="each frame's own face, or the first"
    )
    group.add_argument("--guidance-scale", type=float, help="1.0 for none")
    group.add_argument("--precision", help="f32, bf16 or f16")


def run_options(settings: Settings, arguments: argparse.Namespace | None = None) -> RunOptions:
    """The choices of the settings, those of the command line above them."""
    given = {} if arguments is None else vars(arguments)
    return RunOptions(
        **{
            name: given.get(name) if given.get(name) is not None else getattr(settings, name)
            for name in RUN_FIELDS
        }
    )
