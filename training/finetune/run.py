"""The loop: steps on one or several GPUs, resumed after any end, with curves and videos.

OUT/checkpoints/step-00001000.pt    the newest two
OUT/curve.jsonl                     losses by step; OUT/tensorboard shows the same
OUT/validation/                     videos: truth left, ours right
OUT/skipped.tsv                     clips that could not be used, and why
OUT/model/                          the result, a model folder
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from engine.errors import LipwireError
from training.finetune.batches import LEAST_CLIPS, Batch, ClipSource
from training.finetune.clips import SkipReport, read_listing
from training.finetune.configs import FinetuneConfig
from training.finetune.model_folder import write_model
from training.finetune.networks import load_networks
from training.finetune.noise import generator_of
from training.finetune.objective import Objective
from training.finetune.options import DTYPES, RunOptions
from training.finetune.state import (
    Curve,
    TrainedAverage,
    load_checkpoint,
    save_checkpoint,
)
from training.finetune.validation import Validation
from training.finetune.weights import PixelLosses, load_losses
from training.optimise import prefetched

log = logging.getLogger(__name__)

MOST_LOST_STEPS = 20  # in a row, whose gradients are not finite
NOISE, DATA = 1, 2  # what a seed is for


class TrainingError(LipwireError):
    """Training that cannot go on."""


class Run:
    """A run in the middle."""

    def __init__(
        self,
        config: FinetuneConfig,
        options: RunOptions,
        load: Callable[..., PixelLosses] = load_losses,
    ) -> None:
        """A run at its start, or where its newest checkpoint stands.

        Args:
            load: the losses' networks; tests have small ones.

        Raises:
            LipwireError: data, model or the losses' files are missing or do not fit.
        """
        self._config, self._options = config, options
        options.out.mkdir(parents=True, exist_ok=True)
        self._accelerator = Accelerator(
            mixed_precision=options.precision,
            gradient_accumulation_steps=options.accumulate,
        )
        device, dtype = self._accelerator.device, DTYPES[options.precision]
        report = SkipReport(options.out / "skipped.tsv")
        entries = read_listing(options.data, LEAST_CLIPS * config.frames, report)
        losses = load(options.weights, config.losses, device, dtype)
        self._networks = load_networks(options.model, config, losses, device, dtype)
        self._objective = Objective(config, self._networks, device, recompute=options.recompute)
        self._source = ClipSource(
            [entry for entry in entries if entry.split == "train"],
            self._networks.spec,
            config.frames,
            config.seed,
            report,
        )
        held_out = [entry for entry in entries if entry.split == "validation"]
        self._validation = Validation(
            held_out[: options.validation_clips] if self._accelerator.is_main_process else [],
            self._networks,
            device,
            options.validation_frames,
            report,
        )
        optimizer = torch.optim.AdamW(self._networks.trained.values(), lr=options.rate)
        self._unet, self._optimizer = self._accelerator.prepare(self._networks.unet, optimizer)
        self._average = (
            TrainedAverage(self._networks.trained, options.average) if options.average else None
        )
        self.step = 0
        self._lost = 0
        self._resume()
        self._curve = Curve(options.out / "curve.jsonl", self.step)

    def train(self, progress: Callable[[int, Mapping[str, float]], object]) -> None:
        """Trains to the end; `progress` is told every step and its losses.

        Raises:
            TrainingError: gradients are not finite any more.
            MediaError: no clip can be read.
        """
        with self._board() as board:
            batches = prefetched(self._make_batch, self.step * self._options.accumulate)
            while self.step < self._options.steps:
                figures = self._step(batches)
                self.step += 1
                if self._accelerator.is_main_process:
                    self._curve.add(self.step, figures)
                    for name, value in figures.items():
                        board.add_scalar(f"train/{name}", value, self.step)
                    progress(self.step, figures)
                last = self.step == self._options.steps
                if last or _due(self.step, self._options.checkpoint_every):
                    self._save()
                if last or _due(self.step, self._options.validate_every):
                    self._validate(board)
        self._accelerator.end_training()

    def _make_batch(self, number: int) -> Batch:
        """The batch of this process that is its `number`-th."""
        accelerator = self._accelerator
        overall = number * accelerator.num_processes + accelerator.process_index
        return self._source.batch(overall, self._options.batch)

    def _step(self, batches: Iterator[Batch]) -> dict[str, float]:
        accelerator, options = self._accelerator, self._options
        rate = options.rate * min(1.0, (self.step + 1) / max(options.warmup, 1))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        sums: dict[str, Tensor] = {}
        for part in range(options.accumulate):
            number = (self.step * options.accumulate + part) * accelerator.num_processes
            draw = generator_of(self._config.seed, NOISE, number + accelerator.process_index)
            inputs = self._objective.inputs(next(batches), draw)
            with accelerator.accumulate(self._unet):
                losses = self._objective.losses(self._unet, inputs)
                accelerator.backward(losses.total)
            for name, value in {"loss": losses.total.detach(), **losses.parts}.items():
                sums[name] = sums.get(name, 0.0) + value / options.accumulate
        norm = accelerator.clip_grad_norm_(
            list(self._networks.trained.values()), self._config.max_grad_norm
        )
        names = sorted(sums)
        means = accelerator.reduce(torch.stack([sums[name] for name in names]), "mean")
        figures = dict(zip(names, means.tolist(), strict=True))
        self._apply(float(norm))
        return {**figures, "gradient": float(norm), "rate": rate}

    def _apply(self, norm: float) -> None:
        """Changes the weights, unless the gradients are not finite."""
        finite = math.isfinite(norm)
        # The scaler has to see a lost step too: it lowers its scale.
        if finite or self._accelerator.scaler is not None:
            self._optimizer.step()
        self._optimizer.zero_grad()
        self._lost = 0 if finite else self._lost + 1
        if self._lost > MOST_LOST_STEPS:
            raise TrainingError(
                f"expected finite gradients, got none in the {self._lost} steps up to "
                f"{self.step + 1}; the newest checkpoint is older than that or as bad"
            )
        if finite and self._average is not None:
            self._average.update(self._networks.trained)

    def _identity(self) -> dict[str, Any]:
        """What a checkpoint's meaning depends on."""
        options = self._options
        return {
            "config": self._config.name,
            "losses": asdict(self._config.losses),
            "seed": self._config.seed,
            "model": self._networks.spec.name,
            "batch": options.batch,
            "accumulate": options.accumulate,
            "processes": self._accelerator.num_processes,
            "precision": options.precision,
            "average": options.average,
        }

    def _save(self) -> None:
        if not self._accelerator.is_main_process:
            return
        scaler = self._accelerator.scaler
        state = {
            "run": self._identity(),
            "step": self.step,
            "lost": self._lost,
            "trained": {name: value.detach() for name, value in self._networks.trained.items()},
            "average": None if self._average is None else self._average.values,
            "optimizer": self._optimizer.state_dict(),
            "scaler": None if scaler is None else scaler.state_dict(),
        }
        save_checkpoint(self._options.out / "checkpoints", self.step, state)

    @torch.no_grad()
    def _resume(self) -> None:
        device = self._accelerator.device
        state = load_checkpoint(self._options.out / "checkpoints", self._identity(), device)
        if state is None:
            return
        self.step, self._lost = state["step"], state["lost"]
        for name, value in self._networks.trained.items():
            value.copy_(state["trained"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.values = state["average"]
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        log.info("resumed after step %d", self.step)

    def _validate(self, board: Any) -> None:
        """Renders the clips that are held out, and writes the model folder."""
        if self._accelerator.is_main_process:
            with self._result() as trained:
                folder = self._options.out / "validation"
                figures = self._validation.run(folder, self.step, self._accelerator.autocast())
                spec = self._networks.spec
                write_model(self._options.model, spec, trained, self._options.out / "model")
            for name, value in figures.items():
                board.add_scalar(f"validation/{name}", value, self.step)
            log.info("step %d, on held-out clips: %s", self.step, figures)
        self._accelerator.wait_for_everyone()

    @contextmanager
    def _result(self) -> Iterator[Mapping[str, Tensor]]:
        """The weights that are the result, in the U-Net's place: the average, if there is one."""
        trained: Mapping[str, nn.Parameter] = self._networks.trained
        if self._average is None:
            yield trained
            return
        own = {name: value.detach().clone() for name, value in trained.items()}
        try:
            _assign(trained, self._average.values)
            yield self._average.values
        finally:
            _assign(trained, own)

    @contextmanager
    def _board(self) -> Iterator[Any]:
        """TensorBoard's writer; events after this step are those of a run that crashed."""
        if not self._accelerator.is_main_process:
            yield None
            return
        from torch.utils.tensorboard import SummaryWriter

        folder = str(self._options.out / "tensorboard")
        with SummaryWriter(folder, purge_step=self.step + 1) as board:
            yield board


@torch.no_grad()
def _assign(trained: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    for name, value in trained.items():
        value.copy_(values[name])


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
