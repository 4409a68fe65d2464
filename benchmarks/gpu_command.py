"""What the single commands of the GPU runs have in common: arguments and the first steps."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from benchmarks.measure import Deadline, exact_f32, pick_device
from benchmarks.synthetic import CODECS, SIZES


def common_parser(name: str, description: str, example: str, codec: str) -> argparse.ArgumentParser:
    """A parser with the arguments that every command takes.

    Args:
        name: of the module under `benchmarks`.
        example: arguments of a small run.
        codec: help of `--codec`.
    """
    command = f"python -m benchmarks.{name}"
    parser = argparse.ArgumentParser(
        prog=command, description=description, epilog=f"example: {command} {example}"
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the JSON and the page")
    add("--size", choices=SIZES, default="published", help="tiny to test the command on a CPU")
    add("--resolution", type=int, help="pixels of the face crop (the size's own)")
    add("--codec", choices=CODECS, help=codec)
    add("--device", default="auto", help="cpu, cuda or auto (auto)")
    add("--minutes", type=float, default=9.0, help="begin nothing more after so long (9)")
    add("--threads", type=int, default=1, help="torch's threads on a CPU (1)")
    return parser


def begin(options: argparse.Namespace) -> tuple[torch.device, Deadline]:
    """The device, and the time until which work may begin; f32 means f32 from here on."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    deadline = Deadline(options.minutes)
    torch.set_num_threads(options.threads)
    exact_f32()
    return pick_device(options.device), deadline
