"""Our few-step sampling held against diffusers' DPM++ and LCM, on the same model and faces.

    python -m benchmarks.diffusers_samplers --model bundled --out report

diffusers' schedulers keep their step index and history inside themselves, so two sessions
cannot share one, and a window needs a fresh one: that is why the engine has none of them.
Here they run over whole windows (disjoint, or pinned to the frames before), where a window is
a session of its own.

LCM adds fresh noise of every frame between its steps, which flickers; "lcm" has the session's
fixed noise in its place, "lcm, own noise" is as diffusers runs it.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import cv2
import numpy as np
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, LCMScheduler
from torch import Tensor

from benchmarks.quality.material import Take, make_takes
from benchmarks.quality.plan import round_frames, warm_timesteps
from benchmarks.quality.runs import Run
from benchmarks.quality.scores import Judge, distance, score
from benchmarks.report import (
    Circumstances,
    LinePlot,
    Report,
    Section,
    Series,
    Table,
    here,
    write_report,
)
from engine.backends.base import GeneratedHop
from engine.backends.inputs import session_noise, to_pictures
from engine.backends.torch_backend import TorchBackend
from engine.checkpoints import resolve_model
from engine.denoise.model import TorchModel
from engine.face.mask import mask_latents, paste_weights
from engine.media import F32
from engine.pipeline import show_crops
from engine.sampler import (
    BETA_END,
    BETA_START,
    TRAIN_TIMESTEPS,
    Sampler,
    add_noise,
    alphas_cumprod,
    trailing_timesteps,
)
from engine.spec import ModelSpec, Solver

Windows = Literal["disjoint", "pinned"]

MANY_STEPS: Final = 20
STEPS: Final = (1, 2, 4, 8)
_PINNED_SHARE: Final = 2  # of a window that is context, 1 / n
_SEED: Final = 0

SCHEDULE: Final[dict[str, Any]] = {
    "num_train_timesteps": TRAIN_TIMESTEPS,
    "beta_start": BETA_START,
    "beta_end": BETA_END,
    "beta_schedule": "scaled_linear",
}

Network = Callable[[Tensor, int], Tensor]


class WindowSampler(Protocol):
    """Denoises one window with state of its own."""

    @property
    def timesteps(self) -> Sequence[int]:
        """Highest first."""

    def step(self, index: int, sample: Tensor, prediction: Tensor) -> Tensor:
        """The sample [1, C, f, s, s] that the next timestep starts from, at last the clean one."""


class OurSampler:
    """The engine's, whose steps are functions."""

    def __init__(
        self, spec: ModelSpec, timesteps: Sequence[int], solver: Solver, noises: Tensor
    ) -> None:
        self.timesteps = timesteps
        self._sampler = Sampler(
            dataclasses.replace(spec, timesteps=tuple(timesteps), solver=solver, guided_steps=None)
        )
        self._noises = noises

    def step(self, index: int, sample: Tensor, prediction: Tensor) -> Tensor:
        noise = self._noises[min(index + 1, len(self._noises) - 1)][None, :, None]
        return self._sampler.step(index, sample, prediction, noise.expand_as(sample))


class SchedulerSampler:
    """A fresh scheduler of diffusers for one window.

    Args:
        noises: the session's fixed ones [n, C, s, s], in the place of what LCM draws; None:
            as diffusers draws it.
    """

    def __init__(self, scheduler: Any, steps: int, noises: Tensor | None) -> None:
        scheduler.set_timesteps(steps)
        self.timesteps = [int(timestep) for timestep in scheduler.timesteps]
        self._scheduler = scheduler
        self._noises = noises
        self._generator = torch.Generator().manual_seed(_SEED)

    def step(self, index: int, sample: Tensor, prediction: Tensor) -> Tensor:
        timestep = self._scheduler.timesteps[index]
        more = {"generator": self._generator} if _draws(self._scheduler) else {}
        result = self._scheduler.step(prediction, timestep, sample, **more)
        following: Tensor = result.prev_sample
        last = index + 1 == len(self.timesteps)
        if self._noises is None or last or not _draws(self._scheduler):
            return following
        noise = self._noises[min(index + 1, len(self._noises) - 1)][None, :, None]
        denoised: Tensor = result.denoised
        after = self._scheduler.timesteps[index + 1]
        renoised: Tensor = self._scheduler.add_noise(denoised, noise.expand_as(denoised), after)
        return renoised


def _draws(scheduler: Any) -> bool:
    return isinstance(scheduler, LCMScheduler)


def ddim_scheduler(spec: ModelSpec) -> Any:
    """diffusers' DDIM with the settings of ours."""
    scheduler: Any = DDIMScheduler
    return scheduler(
        **SCHEDULE,
        prediction_type=spec.prediction_type,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
    )


def dpm_scheduler(spec: ModelSpec) -> Any:
    """DPM-Solver++ (2M): second order, from the last two predictions."""
    scheduler: Any = DPMSolverMultistepScheduler
    return scheduler(
        **SCHEDULE,
        prediction_type=spec.prediction_type,
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
    )


def lcm_scheduler(spec: ModelSpec) -> Any:
    """Latent consistency's sampler."""
    scheduler: Any = LCMScheduler
    return scheduler(
        **SCHEDULE,
        prediction_type=spec.prediction_type,
        clip_sample=False,
        set_alpha_to_one=True,
    )


NAMES: Final = ("ddim", "renoise", "warm", "dpm++ 2m", "lcm", "lcm, own noise")


def open_sampler(name: str, spec: ModelSpec, steps: int, noises: Tensor) -> WindowSampler:
    """A sampler for one window.

    Args:
        noises: [n, C, s, s], the session's fixed ones; n >= steps.
    """
    if name == "ddim":
        return OurSampler(spec, trailing_timesteps(steps), "ddim", noises)
    if name == "renoise":
        return OurSampler(spec, trailing_timesteps(steps), "renoise", noises)
    if name == "warm":
        return OurSampler(spec, warm_timesteps(steps), "ddim", noises)
    if name == "dpm++ 2m":
        return SchedulerSampler(dpm_scheduler(spec), steps, None)
    if name == "lcm":
        return SchedulerSampler(lcm_scheduler(spec), steps, noises)
    if name == "lcm, own noise":
        return SchedulerSampler(lcm_scheduler(spec), steps, None)
    raise ValueError(f"expected a sampler of {NAMES}, got {name!r}")


@dataclass(frozen=True, slots=True)
class Faces:
    """One take, ready for the network.

    Attributes:
        tokens: [frames, tokens, width]; masked, reference: [frames, C, s, s].
    """

    take: Take
    tokens: Tensor
    masked: Tensor
    reference: Tensor


class WindowBench:
    """Runs samplers over windows of one model."""

    def __init__(self, folder: Path) -> None:
        self.spec = ModelSpec.read(folder)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = TorchModel.load(folder, device)
        self.name = f"torch-{device.type}-{self._model.precision}"
        noises = session_noise(self.spec, _SEED, MANY_STEPS)
        self._noises = torch.from_numpy(noises).to(device, self._model.latents_dtype)
        mask = torch.from_numpy(mask_latents(self.spec)).to(device, self._model.dtype)
        self._mask = mask[None, None, None]

    @torch.inference_mode()
    def faces(self, take: Take) -> Faces:
        """The take's tokens and latents."""
        backend = TorchBackend(self._model, self.spec)
        device, dtype = self._model.device, self._model.dtype
        masked, reference = (
            torch.from_numpy(backend.encode(take.source, masked=masked)).to(device, dtype)
            for masked in (True, False)
        )
        tokens = [
            self._model.audio_encoder(torch.from_numpy(part).to(device, dtype))
            for part in np.array_split(take.mel, -(-len(take.mel) // self.spec.window_frames))
        ]
        return Faces(take, torch.cat(tokens), masked, reference)

    @torch.inference_mode()
    def run(self, name: str, steps: int, windows: Windows, faces: Faces, frames: int) -> Tensor:
        """Clean latents [frames, C, s, s], cut to whole hops; the take goes round.

        A warm start takes the frame before the window, and at the stream's start one step
        from noise.
        """
        size = self.spec.window_frames
        hop = size if windows == "disjoint" else size // _PINNED_SHARE
        made: list[Tensor] = []
        for first in range(0, frames // hop * hop, hop):
            known = torch.cat([*made, self._noises[:0]])[-(size - hop) :] if hop < size else None
            rows = torch.arange(first + hop - size, first + hop) % len(faces.tokens)
            last = made[-1][-1] if made else None
            made.append(self._window(name, steps, faces, rows, known, last)[-hop:])
        return torch.cat(made)

    def _window(
        self,
        name: str,
        steps: int,
        faces: Faces,
        rows: Tensor,
        known: Tensor | None,
        last: Tensor | None,
    ) -> Tensor:
        """Clean latents [f, C, s, s] of the frames in `rows`.

        Args:
            known: the clean latents of the context, which stands before the new frames; where
                there are fewer than its slots, the first slots are hidden. None: no context.
        """
        slots = 0 if known is None else self.spec.window_frames // _PINNED_SHARE
        context = None
        present = None
        if known is not None:
            missing = slots - len(known)
            context = torch.cat([known.new_zeros(missing, *self._noises.shape[1:]), known])
            present = torch.ones(1, len(rows), device=known.device)
            present[:, :missing] = 0.0
        network = self._network(faces, rows, present)
        noise = self._noises[0][None, :, None].expand(1, -1, len(rows), -1, -1)
        alphas = alphas_cumprod()
        sampler = open_sampler(name, self.spec, steps, self._noises)
        sample = noise
        if name == "warm":
            if last is None:
                cold = open_sampler("ddim", self.spec, 1, self._noises)
                x0 = cold.step(0, noise, network(noise, cold.timesteps[0]))[:, :, -1]
            else:
                x0 = last[None]
            sample = add_noise(x0[:, :, None], noise, float(alphas[sampler.timesteps[0]]))
        for index, timestep in enumerate(sampler.timesteps):
            if context is not None:
                clean = context.transpose(0, 1)[None]
                pinned = add_noise(clean, noise[:, :, :slots], float(alphas[timestep]))
                sample = torch.cat([pinned, sample[:, :, slots:]], dim=2)
            sample = sampler.step(index, sample, network(sample, timestep))
        return sample[0].transpose(0, 1)

    def _network(self, faces: Faces, rows: Tensor, present: Tensor | None) -> Network:
        masked, reference = (
            part[rows].transpose(0, 1)[None] for part in (faces.masked, faces.reference)
        )
        mask = self._mask.expand(1, 1, len(rows), -1, -1)
        tokens = faces.tokens[rows][None]
        dtype = self._model.dtype

        def predict(sample: Tensor, timestep: int) -> Tensor:
            times = torch.full((1,), float(timestep), device=sample.device)
            inputs = torch.cat([sample.to(dtype), mask, masked, reference], dim=1)
            unet = self._model.unet
            prediction, _ = unet.forward_window(inputs, times, tokens, present, keep=False)
            return prediction[:, : sample.shape[1]].to(sample.dtype)  # without a warp

        return predict

    @torch.inference_mode()
    def pictures(self, latents: Tensor, take: Take) -> Any:
        """uint8 [frames, R, R, 3], the generated part pasted into the source."""
        weights = paste_weights(self.spec.face, self.spec.resolution)
        images: list[F32] = [
            self._model.codec.decode(part.to(self._model.dtype)).float().cpu().numpy()
            for part in torch.split(latents, self.spec.window_frames)
        ]
        source = take.source[np.arange(len(latents)) % take.frames]
        return show_crops(GeneratedHop(to_pictures(np.concatenate(images))), source, weights)


def measure(
    bench: WindowBench,
    takes: Sequence[Take],
    steps: Sequence[int],
    windows: Sequence[Windows],
    names: Sequence[str] = NAMES,
    many: int = MANY_STEPS,
) -> dict[str, Any]:
    """Every sampler at every step count, held against our DDIM at many steps in the same windows.

    The takes go round twice (`metrics.seam`).
    """
    judge = Judge.of(bench.spec, takes)
    faces = [bench.faces(take) for take in takes]
    period = takes[0].frames
    rows = []
    for way in windows:
        hop = bench.spec.window_frames // (1 if way == "disjoint" else _PINNED_SHARE)

        def run(name: str, count: int, way: Windows = way) -> Run:
            began = time.perf_counter()
            found = [bench.run(name, count, way, face, 2 * period) for face in faces]
            clips = [bench.pictures(item, take) for item, take in zip(found, takes, strict=True)]
            spent = 1e3 * (time.perf_counter() - began)
            frames = sum(map(len, clips))
            return Run(clips, [item.float().cpu().numpy() for item in found], spent / frames)

        reference = run("ddim", many)
        for name, count, made in _runs(run, names, steps, reference, many):
            row = {
                "sampler": name,
                "steps": count,
                "windows": way,
                "hop": hop,
                "to_many_steps": None
                if made is reference
                else distance(judge, made, reference, len(made.clips[0])),
                "frame_ms": round(made.frame_ms, 2),
                **score(judge, made.clips, hop, period if period % hop else None),
            }
            rows.append(row)
            _say(row)
    return {
        "model": bench.spec.name,
        "trained_timesteps": list(bench.spec.timesteps),
        "backend": bench.name,
        "many_steps": many,
        "frames_a_round": period,
        "takes": len(takes),
        "rows": rows,
    }


def _runs(
    run: Callable[[str, int], Run],
    names: Sequence[str],
    steps: Sequence[int],
    reference: Run,
    many: int,
) -> Iterator[tuple[str, int, Run]]:
    yield "ddim", many, reference
    for name in names:
        for count in steps:
            yield name, count, run(name, count)


def _say(row: dict[str, Any]) -> None:
    held = row["to_many_steps"] or {}
    sys.stdout.write(
        f"{row['windows']:9} {row['sampler']:15} steps {row['steps']:2}"
        f"  latents off {held.get('latents', 0.0):.4f}"
        f"  opening {row['sync']['opening_correlation']:.3f}"
        f"  seam {row['seam']['excess']:.3f}  {row['frame_ms']:.1f} ms a frame\n"
    )
    sys.stdout.flush()


def report_of(result: dict[str, Any], about: Circumstances) -> Report:
    """The page."""
    rows = result["rows"]
    table = Table(
        ("windows", "sampler", "steps", "latents off", "mouth dB off", "opening", "its ratio",
         "error", "seam's excess", "90 %", "mouth dB to truth", "sharpness"),
        [
            (row["windows"], row["sampler"], row["steps"],
             *((row["to_many_steps"] or {}).get(key) for key in ("latents", "mouth_psnr_db")),
             row["sync"]["opening_correlation"], row["sync"]["opening_ratio"],
             row["sync"]["error"], row["seam"]["excess"],
             f"{row['seam']['low']:.3f} to {row['seam']['high']:.3f}",
             row["mouth_psnr_db"], row["sharpness_ratio"])
            for row in rows
        ],
    )  # fmt: skip
    plots = [
        LinePlot(f"Distance to {result['many_steps']} steps, {way} windows", "steps", "latents",
                 _lines(rows, way), log_x=True, log_y=True)
        for way in dict.fromkeys(row["windows"] for row in rows)
    ]  # fmt: skip
    text = (
        f"Held against our DDIM with {result['many_steps']} trailing steps in the same windows. "
        f"The model was trained for the timesteps {result['trained_timesteps']}; elsewhere a "
        "distance says what it makes of what it never saw."
    )
    return Report("Samplers", about, [Section("Few steps", text, [table, *plots])])


def _lines(rows: Sequence[dict[str, Any]], way: str) -> list[Series]:
    series = []
    held = [row for row in rows if row["windows"] == way and row["to_many_steps"]]
    for name in dict.fromkeys(row["sampler"] for row in held):
        own = [row for row in held if row["sampler"] == name]
        far = [max(row["to_many_steps"]["latents"], 1e-6) for row in own]
        series.append(Series(name, [row["steps"] for row in own], far))
    return series


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes JSON and page; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.diffusers_samplers",
        description="Hold the engine's few-step sampling against diffusers' DPM++ and LCM.",
        epilog="example: python -m benchmarks.diffusers_samplers --model bundled --out report",
    )
    parser.add_argument("--model", default="bundled", help="name or folder (bundled)")
    parser.add_argument("--steps", nargs="+", type=int, default=list(STEPS))
    parser.add_argument(
        "--windows", nargs="+", choices=("disjoint", "pinned"), default=["disjoint", "pinned"]
    )
    parser.add_argument("--samplers", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seconds", type=float, default=4.0, help="of a round (4)")
    parser.add_argument("--out", type=Path, required=True, help="folder for JSON and page")
    options = parser.parse_args(given)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    bench = WindowBench(resolve_model(options.model))
    takes = make_takes(bench.spec, round_frames(options.seconds))
    result = measure(bench, takes, options.steps, options.windows, options.samplers)
    about = here("python -m benchmarks.diffusers_samplers", given)
    result = {"circumstances": about.to_dict(), **result}
    write_report(options.out, "samplers", result, report_of(result, about))
    return 0


if __name__ == "__main__":
    sys.exit(main())
