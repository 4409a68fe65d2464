"""Pretrains the bundled audio encoder to tell what the mouth does.

    python -m training.audio_encoder --speech CORPUS --out DIR --steps 7000

The encoder sees the window of one video frame, as the engine will feed it
(`engine.spec.AudioSpec`), and a linear head on its last state predicts the
seven mouth parameters of that frame. Level, formants, microphone, bandwidth and
noise are varied on the log-mel itself, anew for every batch. The denoiser then
starts from an encoder that already knows sound from mouth.

Writes `audio_encoder.safetensors` (keys of `engine.models.whisper`),
`audio_head.safetensors` and `audio_encoder.json` (spec, loss curve and scores),
and a checkpoint with which a run that was killed goes on as if it had not been:
its length is counted in steps, and `--minutes` only stops early.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from engine.media import F32, FRAME_SAMPLES, STEP_SAMPLES
from engine.models.whisper import WhisperEncoder
from engine.spec import AUDIO_STEPS, AudioSpec
from training.mouth import CLOSURE, MOUTH_PARAMETERS
from training.speech.features import MELS_PER_FRAME, log_power
from training.speech.scores import mouth_scores

log = logging.getLogger(__name__)

BUNDLED_AUDIO: Final = AudioSpec(
    n_mels=80, width=128, layers=3, heads=4, positions=32, log_floor=-5.0
)
STEPS_PER_FRAME: Final = FRAME_SAMPLES // STEP_SAMPLES
BATCH: Final = 256
_HISTORY_WEIGHT: Final = 1.0  # of the mean loss over a window's earlier frames
PEAK_RATE: Final = 2e-3
WARMUP_STEPS: Final = 100
_PARAMETER_WEIGHTS: Final = (3.0, 1.0, 2.0, 2.0, 1.5, 1.0, 0.7)
_CLOSED_WEIGHT: Final = 2.0  # rows in which the lips are shut count this much more for closure
_EMA_DECAY: Final = 0.995
CHECKPOINT_STEPS: Final = 100
_SCORE_STEPS: Final = 1000
_CURVE_STEPS: Final = 50  # that one point of the noted loss curve averages
_HELD_OUT_FRAMES: Final = 4000  # of every split, while training


class MouthReader(nn.Module):
    """The audio encoder and a linear head that reads the mouth off its last state."""

    def __init__(self, spec: AudioSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = WhisperEncoder(spec)
        self.head = nn.Linear(AUDIO_STEPS * spec.width, len(MOUTH_PARAMETERS))

    def history(self, mel: Tensor) -> Tensor:
        """[n, k, 7] mouth rows of the window's frames, the frame it is for last.

        Earlier frames are read from the steps that lie where they would drive
        them; they make one window teach a dozen rows.

        Args:
            mel: [n, n_mels, 2 * positions].
        """
        last = self.encoder.states(mel)[:, :, -1]
        steps = last.unfold(1, AUDIO_STEPS, STEPS_PER_FRAME).transpose(2, 3)
        rows: Tensor = self.head(steps.flatten(2))
        return rows

    def forward(self, mel: Tensor) -> Tensor:
        """[n, 7] mouth rows from [n, n_mels, 2 * positions] windows."""
        tokens = self.encoder(mel).unflatten(1, (AUDIO_STEPS, self.spec.layers + 1))
        rows: Tensor = self.head(tokens[:, :, -1].flatten(1))
        return rows


@dataclass(frozen=True, slots=True)
class Windows:
    """Frames of one split that can be drawn at random.

    Attributes:
        power: [rows, 80] log10 mel power, float16, clip after clip with padding.
        first: [frames] row at which the window of a frame begins.
        age: [frames] frames since the start of the clip.
        mouth: [frames, 7] the truth.
        clips: (start, frames) of every clip.
    """

    power: Tensor
    first: Tensor
    age: Tensor
    mouth: Tensor
    clips: tuple[tuple[int, int], ...]

    def batch(self, frames: Tensor, mel_frames: int) -> Tensor:
        """[n, 80, mel_frames] log10 power of the windows of `frames`."""
        rows = self.first[frames][:, None] + torch.arange(mel_frames)
        return self.power[rows].transpose(1, 2).float()

    def history(self, frames: Tensor, length: int) -> Tensor:
        """[n, length, 7] the truth up to each frame, at rest before its clip."""
        back = torch.arange(length - 1, -1, -1)
        rows = self.mouth[(frames[:, None] - back).clamp_min(0)]
        return rows * (self.age[frames][:, None] >= back)[..., None]


def read_windows(folder: Path, spec: AudioSpec, limit_frames: int | None = None) -> Windows:
    """The windows of one split of the speech corpus, or of about its first `limit_frames`."""
    audio = np.load(folder / "audio.npy", mmap_mode="r")
    mouth = np.load(folder / "mouth.npy")
    clips = json.loads((folder / "clips.json").read_text(encoding="utf-8"))
    if limit_frames is not None:
        clips = [clip for clip in clips if clip["start"] < limit_frames]
        mouth = mouth[: clips[-1]["start"] + clips[-1]["frames"]]
    parts: list[NDArray[np.float16]] = []
    first, age = np.zeros(len(mouth), np.int64), np.zeros(len(mouth), np.int64)
    rows = 0
    for clip in clips:
        start, frames = clip["start"], clip["frames"]
        samples = audio[start * FRAME_SAMPLES : (start + frames) * FRAME_SAMPLES]
        power = log_power(np.asarray(samples, np.float32) / 32767.0, spec)
        parts.append(power.astype(np.float16))
        first[start : start + frames] = rows + MELS_PER_FRAME * np.arange(frames)
        age[start : start + frames] = np.arange(frames)
        rows += len(power)
    spans = tuple((clip["start"], clip["frames"]) for clip in clips)
    return Windows(
        torch.from_numpy(np.concatenate(parts)),
        torch.from_numpy(first),
        torch.from_numpy(age),
        torch.from_numpy(mouth),
        spans,
    )


def to_log_mel(power: Tensor, log_floor: float) -> Tensor:
    """The encoder's input from log10 power: clipped below, then (x + 4) / 4."""
    return (power.clamp_min(log_floor) + 4.0) / 4.0


def vary(power: Tensor, random: torch.Generator) -> Tensor:
    """Log10 power [n, 80, t] with another level, vocal tract, microphone and noise a window."""
    n, bins, _ = power.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, generator=random)

    # Half of the windows keep their vocal tract; the corpus varies it as well.
    stretch = torch.exp(uniform(-0.10, 0.10) * (uniform(0, 1) < 0.5))
    place = (torch.arange(bins)[None, :, None] * stretch).clamp(0, bins - 1.001)
    low = place.floor().long().expand(-1, -1, power.shape[2])
    share = place - place.floor()
    power = power.gather(1, low) * (1 - share) + power.gather(1, low + 1) * share
    ramp = torch.linspace(-1, 1, bins)[None, :, None]
    curve = uniform(-0.5, 0.5) * ramp + uniform(-0.3, 0.3) * torch.cos(
        math.pi * (ramp * uniform(0.5, 2.5) + uniform(0, 2))
    )
    power = power + curve + uniform(-1.0, 1.0)
    # A quarter heard through a narrow band, as telephones and low bit rates leave it.
    bin_number = torch.arange(bins)[None, :, None]
    edge = torch.where(uniform(0, 1) < 0.25, uniform(0.55, 0.95) * bins, torch.tensor(float(bins)))
    power = power - 0.5 * (bin_number - edge).clamp(0, 8)
    hiss = uniform(-4.5, -1.5) + uniform(-1.0, 1.0) * ramp
    wobble = 0.25 * torch.randn(power.shape, generator=random)
    noise = torch.where(uniform(0, 1) < 0.5, hiss + wobble, torch.tensor(-10.0))
    return torch.logaddexp(power * math.log(10), noise * math.log(10)) / math.log(10)


def mouth_loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """Weighted squared error over [..., 7]; shut lips count more."""
    weights = torch.tensor(_PARAMETER_WEIGHTS).expand_as(truth).clone()
    weights[..., CLOSURE] *= 1.0 + (_CLOSED_WEIGHT - 1.0) * truth[..., CLOSURE]
    return (weights * (predicted - truth).square()).mean()


def predict(reader: MouthReader, windows: Windows) -> F32:
    """float32 [frames, 7] for every frame of a split."""
    spec = reader.spec
    rows = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for first in range(0, len(windows.mouth), 1024):
            frames = torch.arange(first, min(first + 1024, len(windows.mouth)))
            power = windows.batch(frames, spec.mel_frames)
            rows.append(reader(to_log_mel(power, spec.log_floor)).float())
    return torch.cat(rows).numpy()


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides every step of a run.

    Attributes:
        steps: length of the run and of its learning-rate schedule.
        start_from: encoder weights to begin with, as `save` writes them.
    """

    steps: int
    seed: int = 1
    peak_rate: float = PEAK_RATE
    batch: int = BATCH
    start_from: Path | None = None


class Trainer:
    """The reader, its optimiser and averaged weights, and the losses so far."""

    def __init__(self, spec: AudioSpec, plan: Plan) -> None:
        torch.manual_seed(plan.seed)
        self.plan = plan
        self.reader = MouthReader(spec)
        if plan.start_from is not None:
            self.reader.encoder.load_state_dict(load_file(plan.start_from))
        self.average = MouthReader(spec)
        self.average.load_state_dict(self.reader.state_dict())
        self.optimizer = torch.optim.AdamW(
            self.reader.parameters(), lr=plan.peak_rate, betas=(0.9, 0.98), weight_decay=0.02
        )
        self.random = torch.Generator().manual_seed(plan.seed)
        self.losses: list[float] = []

    @property
    def step(self) -> int:
        return len(self.losses)

    def _rate(self) -> float:
        warm = min(1.0, (self.step + 1) / WARMUP_STEPS)
        progress = min(self.step / self.plan.steps, 1.0)
        return self.plan.peak_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))

    def learn(self, windows: Windows) -> float:
        """The loss of one step."""
        rate = self._rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        spec = self.reader.spec
        frames = torch.randint(len(windows.mouth), (self.plan.batch,), generator=self.random)
        power = vary(windows.batch(frames, spec.mel_frames), self.random)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = self.reader.history(to_log_mel(power, spec.log_floor)).float()
        truth = windows.history(frames, predicted.shape[1])
        loss = mouth_loss(predicted[:, -1], truth[:, -1])
        loss = loss + _HISTORY_WEIGHT * mouth_loss(predicted[:, :-1], truth[:, :-1])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.reader.parameters(), 1.0)
        self.optimizer.step()
        self.losses.append(float(loss.detach()))
        decay = min(_EMA_DECAY, self.step / (self.step + 20))
        with torch.no_grad():
            for kept, new in zip(self.average.parameters(), self.reader.parameters(), strict=True):
                kept.lerp_(new, 1 - decay)
        return self.losses[-1]

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, but for the corpus and the plan."""
        return {
            "reader": self.reader.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": self.random.get_state(),
            "losses": self.losses,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.reader.load_state_dict(state["reader"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.random.set_state(state["random"])
        self.losses = list(state["losses"])


def save(trainer: Trainer, scores: dict[str, Any], out: Path) -> None:
    """The averaged encoder, its head and a note of how they were made."""
    reader = trainer.average
    encoder = {key: value.contiguous() for key, value in reader.encoder.state_dict().items()}
    save_file(encoder, out / "audio_encoder.safetensors")
    save_file(reader.head.state_dict(), out / "audio_head.safetensors")
    note = {
        "audio": dataclasses.asdict(reader.spec),
        "head": "mouth = weight @ flatten(last state of the 10 steps, [10 * width]) + bias",
        "steps": trainer.step,
        "losses": [round(float(np.mean(part)), 5) for part in _chunks(trainer.losses)],
        "scores": scores,
    }
    (out / "audio_encoder.json").write_text(json.dumps(note, indent=1) + "\n", encoding="utf-8")


def evaluate(reader: MouthReader, splits: dict[str, Windows]) -> dict[str, Any]:
    """Scores of every split (`training.speech.scores`)."""
    return {
        name: mouth_scores(predict(reader, windows), windows.mouth.numpy(), windows.clips)
        for name, windows in splits.items()
    }


def _chunks(losses: list[float]) -> list[list[float]]:
    return [losses[first : first + _CURVE_STEPS] for first in range(0, len(losses), _CURVE_STEPS)]


def write_checkpoint(trainer: Trainer, path: Path) -> None:
    """The trainer's state in `path`, whole or not at all."""
    partial = path.with_suffix(".part")
    torch.save(trainer.state(), partial)
    partial.replace(path)


def train(
    speech: Path,
    out: Path,
    plan: Plan,
    spec: AudioSpec = BUNDLED_AUDIO,
    minutes: float = math.inf,
    checkpoint_steps: int = CHECKPOINT_STEPS,
) -> list[float]:
    """The loss of every step of `plan`, those before a resume among them.

    Args:
        minutes: of wall clock, after which this run stops with a checkpoint.
    """
    out.mkdir(parents=True, exist_ok=True)
    windows = read_windows(speech / "train", spec)
    held_out = {
        path.parent.name: read_windows(path.parent, spec, _HELD_OUT_FRAMES)
        for path in sorted(speech.glob("*/clips.json"))
        if path.parent.name != "train"
    }
    trainer = Trainer(spec, plan)
    checkpoint = out / "audio_encoder.checkpoint.pt"
    if checkpoint.is_file():
        trainer.load(torch.load(checkpoint, weights_only=True))
    log.info("%d frames, at step %d of %d", len(windows.mouth), trainer.step, plan.steps)
    began = time.monotonic()
    while trainer.step < plan.steps:
        trainer.learn(windows)
        finished = trainer.step == plan.steps
        late = time.monotonic() - began > 60 * minutes
        if trainer.step % checkpoint_steps == 0 or finished or late:
            write_checkpoint(trainer, checkpoint)
            recent = float(np.mean(trainer.losses[-checkpoint_steps:]))
            log.info("step %d loss %.4f", trainer.step, recent)
        if trainer.step % _SCORE_STEPS == 0 or finished or late:
            scores = evaluate(trainer.average, held_out)
            save(trainer, scores, out)
            for name, score in scores.items():
                log.info("%s %s", name, json.dumps(score))
        if late:
            break
    return trainer.losses


def main() -> None:
    parser = argparse.ArgumentParser(description="Pretrain the audio encoder on mouth tracks.")
    parser.add_argument("--speech", type=Path, required=True, help="corpus folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--peak-rate", type=float, default=PEAK_RATE)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--start-from", type=Path, help="encoder weights to begin with")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop early, to resume")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    plan = Plan(
        arguments.steps,
        arguments.seed,
        arguments.peak_rate,
        arguments.batch,
        arguments.start_from,
    )
    train(arguments.speech, arguments.out, plan, minutes=arguments.minutes)


if __name__ == "__main__":
    main()
