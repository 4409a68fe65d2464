"""LatentSync's stage 2 on clips of one's own people.

    python -m training.finetune --config stage2_efficient --data clips --out run
    accelerate launch -m training.finetune --config stage2 --data clips --out run    # several GPUs

The same command again goes on where a run has ended, however it ended.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from engine.checkpoints import resolve_model
from engine.errors import LipwireError
from training.finetune.configs import CONFIGS, FinetuneConfig
from training.finetune.options import DTYPES, RunOptions
from training.finetune.run import Run
from training.finetune.weights import default_folder

log = logging.getLogger("training.finetune")

OPTIONAL_LOSSES = ("perceptual", "sync", "temporal")
LOG_EVERY = 10


def main(
    arguments: Sequence[str] | None = None, configs: Mapping[str, FinetuneConfig] = CONFIGS
) -> int:
    """Trains; the exit status."""
    given = _parser(configs).parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = configs[given.config].without(*given.without)
    try:
        Run(config, _options(given, config)).train(_say)
    except LipwireError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def default_precision() -> str:
    """bf16 on GPUs that have it, fp16 on others, f32 on a CPU."""
    if not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def _options(given: argparse.Namespace, config: FinetuneConfig) -> RunOptions:
    return RunOptions(
        data=given.data,
        out=given.out,
        model=resolve_model(given.model or config.base),
        weights=given.weights or default_folder(),
        steps=given.steps,
        batch=given.batch,
        accumulate=given.accumulate,
        precision=given.precision or default_precision(),
        rate=config.learning_rate if given.rate is None else given.rate,
        warmup=given.warmup,
        average=given.average,
        checkpoint_every=given.checkpoint_every,
        validate_every=given.validate_every,
        validation_clips=given.validation_clips,
        validation_frames=given.validation_frames,
        recompute=not given.keep_activations,
    )


def _say(step: int, figures: Mapping[str, float]) -> None:
    if step == 1 or step % LOG_EVERY == 0:
        log.info("step %d: %s", step, ", ".join(f"{k} {v:.4g}" for k, v in figures.items()))


def _parser(configs: Mapping[str, FinetuneConfig]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.finetune", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--config", choices=sorted(configs), required=True)
    add("--data", type=Path, required=True, help="folder that training.prepare has made")
    add("--out", type=Path, required=True, help="folder of all that comes out; resumed if there")
    add("--model", help="model that training starts from (the config's published one)")
    add("--weights", type=Path, help="folder of the losses' files (beside fetched models)")
    add(
        "--without",
        nargs="+",
        choices=OPTIONAL_LOSSES,
        default=[],
        help="losses to train without; their files are then not needed",
    )
    add("--steps", type=int, default=10_000, help="of the optimiser, in all (10000)")
    add("--batch", type=int, default=1, help="clips of a GPU at once (1)")
    add("--accumulate", type=int, default=1, help="batches of a step (1)")
    add("--precision", choices=sorted(DTYPES), help="(bf16 where a GPU has it, else fp16)")
    add("--rate", type=float, help="learning rate (the config's 1e-5)")
    add("--warmup", type=int, default=0, help="steps in which the rate rises (0)")
    add("--average", type=float, default=0.0, help="decay of averaged weights, 0.999 say (none)")
    add("--checkpoint-every", type=int, default=1000, help="steps (1000)")
    add("--validate-every", type=int, default=1000, help="steps (1000)")
    add("--validation-clips", type=int, default=4, help="rendered each time (4)")
    add("--validation-frames", type=int, default=100, help="of each, at most (100)")
    add(
        "--keep-activations",
        action="store_true",
        help="faster where there is memory: no gradient checkpointing",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
