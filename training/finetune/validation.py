"""How the model does on clips it is not trained on, through the engine that will serve it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from engine.backends.base import HopInput
from engine.backends.torch_backend import TorchBackend
from engine.denoise.model import DTYPES, TorchModel
from engine.errors import MediaError
from engine.face.mask import paste_weights
from engine.media import F32, FRAME_SAMPLES, U8
from engine.spec import ModelSpec
from training.finetune.batches import log_mel_windows
from training.finetune.clips import Clip, ClipEntry, SkipReport, read_clip
from training.finetune.networks import Networks
from training.losses.sync import SYNC_FRAMES
from training.losses.sync_mel import columns_of, sync_mel
from training.prepare.clip_file import write_clip

NOISE_SEED = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one clip.

    Attributes:
        made: uint8 RGB [n, R, R, 3], what a viewer would see.
        error: mean difference from the truth where the mask generates, in levels.
        sync: mean cosine of StableSyncNet over windows of 16 frames; None without it.
    """

    made: U8
    error: float
    sync: float | None


class Validation:
    """Renders clips hop by hop and judges them."""

    def __init__(
        self,
        entries: Sequence[ClipEntry],
        networks: Networks,
        device: torch.device,
        frames: int,
        report: SkipReport,
    ) -> None:
        self._networks = networks
        self._device = device
        self._frames = frames
        self._clips: list[tuple[str, Clip]] = []
        for entry in entries:
            try:
                clip = read_clip(entry.path, networks.spec.resolution)
            except MediaError as error:
                report.add(entry.path.name, str(error))
                continue
            self._clips.append((entry.path.stem, clip))

    def run(
        self, folder: Path, step: int, precision: AbstractContextManager[object]
    ) -> dict[str, float]:
        """The means over all clips, by name; writes a video of each, truth left, ours right.

        Args:
            precision: the context that the U-Net is trained in.
        """
        folder.mkdir(parents=True, exist_ok=True)
        verdicts = []
        with precision:
            # Captured graphs would replay the weights' casts of the step they were made at.
            backend = TorchBackend(
                _as_model(self._networks, self._device),
                self._networks.spec,
                buckets=(1,),
                graphs=False,
                sessions=1,
            )
            for name, clip in self._clips:
                verdict = self._judge(backend, clip)
                verdicts.append(verdict)
                shown = clip.pictures[: len(verdict.made)]
                write_clip(
                    folder / f"step-{step:08d}-{name}.mp4",
                    np.concatenate([shown, verdict.made], axis=2),
                    clip.samples[: len(shown) * FRAME_SAMPLES],
                )
        if not verdicts:
            return {}
        figures = {"error_levels": float(np.mean([verdict.error for verdict in verdicts]))}
        cosines = [verdict.sync for verdict in verdicts if verdict.sync is not None]
        if cosines:
            figures["sync_cosine"] = float(np.mean(cosines))
        return figures

    def _judge(self, backend: TorchBackend, clip: Clip) -> Verdict:
        spec = self._networks.spec
        count = min(len(clip.pictures), self._frames) // spec.hop_frames * spec.hop_frames
        pictures = clip.pictures[:count]
        weights = paste_weights(spec.face, spec.resolution)[..., None]
        drawn = render_clip(backend, spec, pictures, clip.samples)
        made = np.rint(pictures + weights * (drawn.astype(np.float32) - pictures)).astype(np.uint8)
        difference = np.abs(made.astype(np.float32) - pictures).mean(axis=(0, 3))
        error = float((difference * weights[..., 0]).sum() / weights.sum())
        return Verdict(made, error, self._sync(made, clip.samples))

    @torch.no_grad()
    def _sync(self, made: U8, samples: F32) -> float | None:
        loss = self._networks.losses.sync
        if loss is None or len(made) < SYNC_FRAMES:
            return None
        columns = sync_mel(samples)
        cosines = []
        for start in range(0, len(made) - SYNC_FRAMES + 1, SYNC_FRAMES):
            heard = columns_of(start, SYNC_FRAMES)
            frames = torch.from_numpy(made[start : start + SYNC_FRAMES].astype(np.float32))
            clip = (frames / 127.5 - 1.0).permute(0, 3, 1, 2)[None].to(self._device)
            mel = torch.from_numpy(columns[None, None, :, heard.start : heard.stop])
            cosines.append(float(loss.cosine(clip, mel.to(self._device)).mean()))
        return float(np.mean(cosines))


def render_clip(backend: TorchBackend, spec: ModelSpec, pictures: U8, samples: F32) -> U8:
    """What a stream makes of aligned crops uint8 [n, R, R, 3], n a multiple of the hop."""
    session = backend.new_session(hop_frames=spec.hop_frames, seed=NOISE_SEED)
    made = []
    for start in range(0, len(pictures), spec.hop_frames):
        frames = range(start, start + spec.hop_frames)
        crops = pictures[frames.start : frames.stop]
        hop = HopInput(
            session,
            log_mel_windows(samples, frames, spec.audio),
            backend.encode(crops, masked=True),
            backend.encode(crops, masked=False),
        )
        made += [generated.crops for generated in backend.run_hop([hop])]
    return np.concatenate(made)


def _as_model(networks: Networks, device: torch.device) -> TorchModel:
    (precision,) = (name for name, dtype in DTYPES.items() if dtype == networks.dtype)
    return TorchModel(networks.unet, networks.codec, networks.audio_encoder, device, precision)
