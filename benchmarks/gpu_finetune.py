"""Entry 2 of the GPU runs, its fine-tuning half: memory and time of a training step.

    python -m benchmarks.gpu_finetune --out out                     # on a GPU
    python -m benchmarks.gpu_finetune --out out --size tiny         # on a CPU, to test it

Steps of `training.finetune` at batch 1, with synthetic weights of every network that takes part:
what they are does not change what a step takes. Beside the peak that the device reports stand the
one that `benchmarks.finetune_memory` counts without a device, and the published figure.
"""

from __future__ import annotations

import argparse
import gc
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.finetune_memory import step_memory
from benchmarks.finetune_networks import (
    PUBLISHED_LOSSES,
    TINY_LOSSES,
    LossSizes,
    synthetic_inputs,
    synthetic_networks,
)
from benchmarks.gpu_command import begin, common_parser
from benchmarks.measure import (
    Deadline,
    Figures,
    device_name,
    peak_memory_mb,
    reset_peak,
    table,
    time_call,
)
from benchmarks.report import Circumstances, Report, Section, Table, here, write_report
from benchmarks.synthetic import spec_of
from engine.spec import ModelSpec
from training.finetune.configs import CONFIGS, FinetuneConfig
from training.finetune.objective import Objective

logger = logging.getLogger(__name__)

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
MIN_CASE_S = 60.0  # to make the networks of a case and warm up


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes gpu_finetune.json and its page, prints a table; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    device, deadline = begin(options)
    about = here("python -m benchmarks.gpu_finetune", given, device_name(device))
    figures = Figures(
        options.out,
        "gpu_finetune",
        about,
        device,
        model=options.size,
        precision=options.precision,
        batch=options.batch,
        counted_by="fake tensors, every storage while it lives (benchmarks/finetune_memory.py)",
    )
    rows: list[dict[str, object]] = []
    for name in options.configs:
        config, spec, sizes = _case(options, CONFIGS[name])
        for recompute in (True, False) if options.both else (True,):
            label = f"{name}{'' if recompute else ', activations kept'}"
            row = _computed(config, spec, sizes, options.batch, recompute=recompute)
            if recompute:
                row["published GB"] = CONFIGS[name].published_memory_gb
            if deadline.allows(label, 0.0 if options.size == "tiny" else MIN_CASE_S):
                row |= _measured(config, spec, sizes, device, options, recompute=recompute)
                _clear(device)
            rows.append({"configuration": label, **row})
            figures.put(steps=rows, skipped=deadline.skipped)
            logger.info("%s done", label)
    write_report(options.out, "gpu_finetune", figures.data, _page(rows, about, deadline))
    sys.stdout.write(table(rows))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = common_parser(
        "gpu_finetune",
        "Memory and time of a fine-tuning step.",
        "--out out --size tiny",
        codec="picture codec (kl)",
    )
    add = parser.add_argument
    add("--configs", nargs="+", choices=sorted(CONFIGS), default=["stage2_efficient", "stage2"])
    add("--precision", choices=sorted(DTYPES), default="bf16")
    add("--batch", type=int, default=1, help="clips of a step (1)")
    add("--both", action="store_true", help="also without gradient checkpointing")
    add("--rounds", type=int, default=5, help="steps that are timed (5)")
    return parser


def _case(
    options: argparse.Namespace, config: FinetuneConfig
) -> tuple[FinetuneConfig, ModelSpec, LossSizes]:
    resolution = options.resolution or (None if options.size == "tiny" else config.resolution)
    spec = spec_of(options.size, resolution, options.codec or "kl")
    sizes = TINY_LOSSES if options.size == "tiny" else PUBLISHED_LOSSES
    return replace(config, resolution=spec.resolution), spec, sizes


def _computed(
    config: FinetuneConfig, spec: ModelSpec, sizes: LossSizes, batch: int, *, recompute: bool
) -> dict[str, object]:
    memory = step_memory(config, spec, batch, recompute=recompute, sizes=sizes)
    return {
        "networks GB": memory.networks / 1e9,
        "gradients GB": memory.gradients / 1e9,
        "optimiser GB": memory.optimizer / 1e9,
        "computed peak GB": memory.peak / 1e9,
    }


def _measured(
    config: FinetuneConfig,
    spec: ModelSpec,
    sizes: LossSizes,
    device: torch.device,
    options: argparse.Namespace,
    *,
    recompute: bool,
) -> dict[str, object]:
    """What steps took; every network is gone when this returns."""
    torch.manual_seed(0)
    dtype = DTYPES[options.precision]
    networks = synthetic_networks(config, spec, device, dtype, sizes)
    objective = Objective(config, networks, device, recompute=recompute)
    optimizer = torch.optim.AdamW(networks.trained.values(), lr=config.learning_rate)
    inputs = synthetic_inputs(objective, options.batch)
    losses: list[float] = []

    def predict(*values: Tensor) -> Tensor:
        with _autocast(device, dtype):
            predicted: Tensor = networks.unet(*values)
        return predicted

    def step() -> None:
        total = objective.losses(predict, inputs).total
        total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(networks.trained.values(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(total.detach()))

    step()  # the optimiser takes its memory
    reset_peak(device)
    timing = time_call(step, device, rounds=options.rounds, warmup=1, wall=True)
    figures: dict[str, object] = {"step ms": timing.median_ms, "last loss": losses[-1]}
    if device.type == "cuda":
        figures["measured peak GB"] = peak_memory_mb(device) / 1e3
        figures["reserved GB"] = torch.cuda.max_memory_reserved(device) / 1e9
    return figures


def _clear(device: torch.device) -> None:
    """Gives back the memory of the case before."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def _page(rows: Sequence[Mapping[str, Any]], about: Circumstances, deadline: Deadline) -> Report:
    head: dict[str, None] = {key: None for row in rows for key in row}
    block = Table(list(head), [[_short(row.get(key)) for key in head] for row in rows])
    skipped = "".join(f" No time for: {what}." for what in deadline.skipped)
    return Report(
        "Fine-tuning",
        about,
        [Section("A step", f"Batch of one clip of 16 frames, all losses on.{skipped}", [block])],
        "What a step of training.finetune takes.",
    )


def _short(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
