"""Clips of the corpus as a given model folder's networks see them: resized, masked, encoded.

`training.batches` serves the bundled model; here resolution, mask, codec and audio windows are
those of any folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from engine.errors import ConfigError
from engine.face.mask import mask_image, mask_latents
from engine.models.build import AnyCodec
from engine.models.whisper import WhisperEncoder
from engine.spec import FaceSpec, ModelSpec
from training.audio_encoder import vary
from training.batches import jittered
from training.dataset import (
    BUNDLED_FACE,
    MOUTH_BOX,
    CropStore,
    SpeechStore,
    Split,
    colour_jitter,
    to_tensor,
    windows_of,
)

MOUTH_GAIN: Final = 4.0
OUTSIDE_WEIGHT: Final = 0.05  # outside of the mask nothing is shown


@dataclass(frozen=True, slots=True)
class SpokenClips:
    """Runs of consecutive frames with their sound.

    Attributes:
        pictures: [b, f, 3, R, R] in [-1, 1], with the mouth to draw.
        sources: of that shape: what is kept outside of the mask is taken from these.
        mel: [b, f, n_mels, mel_frames].
        references: of the pictures' shape, with another mouth; None: the sources.
        mouth: [b, f, 7] the truth; None where nobody knows it.
    """

    pictures: Tensor
    sources: Tensor
    mel: Tensor
    references: Tensor | None = None
    mouth: Tensor | None = None


@dataclass(frozen=True, slots=True)
class ClipLatents:
    """The same, encoded: what goes into the U-Net beside noise, and what should come out.

    Attributes:
        whole: [b, C, f, s, s] latents of the pictures.
        masked: of the sources with the generated part greyed out.
        reference: of the references.
        mask: [b, 1, f, s, s] 1 = keep.
        tokens: [b, f, tokens, width].
    """

    whole: Tensor
    masked: Tensor
    reference: Tensor
    mask: Tensor
    tokens: Tensor

    def network_input(self, noisy: Tensor) -> Tensor:
        """[b, 3C + 1, f, s, s] of noisy latents [b, C, f, s, s]."""
        return torch.cat([noisy, self.mask, self.masked, self.reference], dim=1)


class ClipEncoder:
    """A model's frozen codec and audio encoder, applied to clips."""

    def __init__(self, spec: ModelSpec, codec: AnyCodec, audio_encoder: WhisperEncoder) -> None:
        self._codec, self._audio_encoder = codec, audio_encoder
        self._device = next(codec.parameters()).device
        self._keep = torch.from_numpy(mask_image(spec)).to(self._device)
        self._mask = torch.from_numpy(mask_latents(spec)).to(self._device)

    @torch.no_grad()
    def __call__(self, clips: SpokenClips) -> ClipLatents:
        pictures, sources = clips.pictures.to(self._device), clips.sources.to(self._device)
        mel = clips.mel.to(self._device)
        tokens = self._audio_encoder(mel.flatten(0, 1))
        tokens = tokens.reshape(*mel.shape[:2], *tokens.shape[1:])
        whole = self._encode(pictures)
        mask = self._mask.expand(len(whole), 1, whole.shape[2], -1, -1)
        masked = self._encode(sources * self._keep)
        references = sources if clips.references is None else clips.references.to(self._device)
        return ClipLatents(whole, masked, self._encode(references), mask, tokens)

    def _encode(self, pictures: Tensor) -> Tensor:
        latents = self._codec.encode(pictures.flatten(0, 1))
        return latents.reshape(*pictures.shape[:2], *latents.shape[1:]).transpose(1, 2)


def spoken_clips(
    store: CropStore,
    speech: SpeechStore,
    spec: ModelSpec,
    shape: tuple[int, int],
    split: Split,
    seed: int,
) -> SpokenClips:
    """`shape` = (clips, frames) random runs of speaking faces, a function of the seed.

    Raises:
        ConfigError: the model's crop is not the corpus's, or no clip is so long.
    """
    if not _is_bundled_geometry(spec.face):
        raise ConfigError(f"expected a model with the corpus's crop of a face, got {spec.name}'s")
    rng, generator = np.random.default_rng((13, seed)), torch.Generator().manual_seed(seed)
    count, frames = shape
    clips = [clip for clip in store.clips(split) if clip.speech and clip.frames >= frames]
    if not clips:
        raise ConfigError(f"expected spoken clips of at least {frames} frames, found none")
    both, mouths, power = [], [], []
    for index in rng.integers(len(clips), size=count):
        clip = clips[index]
        first = int(rng.integers(clip.frames - frames + 1))
        run = jittered(store.run_of_frames(clip, first, frames), rng)
        both += [run.crops, run.sources]
        mouths.append(run.mouth)
        power.append(speech.rows(clip, first, frames).T)
    seen = resized(to_tensor(np.concatenate(both)), spec.resolution)
    seen = colour_jitter(seen, generator, group=2 * frames)
    pair = seen.reshape(count, 2, frames, *seen.shape[1:])
    heard = vary(torch.from_numpy(np.stack(power)), generator)
    mel, mouth = windows_of(heard, spec.audio), torch.from_numpy(np.stack(mouths))
    return SpokenClips(pair[:, 0], pair[:, 1], mel, mouth=mouth)


def resized(pictures: Tensor, resolution: int) -> Tensor:
    """[n, 3, resolution, resolution] of pictures [n, 3, R, R]: area means on the way down."""
    if pictures.shape[-1] == resolution:
        return pictures
    size = (resolution, resolution)
    if pictures.shape[-1] > resolution:
        return F.interpolate(pictures, size, mode="area")
    return F.interpolate(pictures, size, mode="bilinear")


def lips_box(face: FaceSpec, resolution: int) -> tuple[int, int, int, int]:
    """Where the lips of any opening lie in a model's crop: left, top, right, bottom in pixels."""
    (x_gain, x_offset), (y_gain, y_offset) = _from_bundled(face)
    left, top, right, bottom = MOUTH_BOX
    edges = np.asarray(
        (
            x_gain * left + x_offset,
            y_gain * top + y_offset,
            x_gain * right + x_offset,
            y_gain * bottom + y_offset,
        )
    )
    box = np.clip(np.round(edges * resolution), 0, resolution).astype(int)
    return int(box[0]), int(box[1]), int(box[2]), int(box[3])


def pixel_weight(spec: ModelSpec) -> Tensor:
    """[R, R] loss weights with mean 1: the lips most, outside of the mask hardly."""
    left, top, right, bottom = lips_box(spec.face, spec.resolution)
    weight = torch.ones(spec.resolution, spec.resolution)
    weight[top:bottom, left:right] = MOUTH_GAIN
    weight = weight * (1.0 - torch.from_numpy(mask_image(spec))).clamp(min=OUTSIDE_WEIGHT)
    return weight / weight.mean()


def latent_weight(spec: ModelSpec) -> Tensor:
    """[s, s] the same for latents."""
    return F.avg_pool2d(pixel_weight(spec)[None, None], spec.codec.downscale)[0, 0]


ClipSource = Callable[[tuple[int, int], int], SpokenClips]
"""(clips, frames) and a seed to `SpokenClips`: the corpus, or whatever else shows speech."""


def corpus_source(store: CropStore, speech: SpeechStore, spec: ModelSpec) -> ClipSource:
    """Clips of the corpus's training split."""

    def draw(shape: tuple[int, int], seed: int) -> SpokenClips:
        return spoken_clips(store, speech, spec, shape, "train", seed)

    return draw


def _from_bundled(face: FaceSpec) -> tuple[tuple[float, float], tuple[float, float]]:
    """(gain, offset) of x and of y from the bundled crop's units 0..1 to those of `face`."""

    def units(spec: FaceSpec) -> tuple[float, float, float, float]:
        (brow_x, brow_y), (other_x, _), (_, nose_y) = spec.template
        width, height = spec.crop_width, spec.crop_height
        return brow_x / width, other_x / width, brow_y / height, nose_y / height

    own, bundled = units(face), units(BUNDLED_FACE)
    x_gain = (own[1] - own[0]) / (bundled[1] - bundled[0])
    y_gain = (own[3] - own[2]) / (bundled[3] - bundled[2])
    return (x_gain, own[0] - x_gain * bundled[0]), (y_gain, own[2] - y_gain * bundled[2])


def _is_bundled_geometry(face: FaceSpec) -> bool:
    return bool(np.allclose(_from_bundled(face), ((1.0, 0.0), (1.0, 0.0)), atol=1e-3))
