"""A small bidirectional model, trained on the corpus in minutes, for the conversion to begin from.

Its norms pool over the frames of a window, as the published network's do, and every training clip
is one window in which all frames see all frames. It hears through the bundled model's encoder.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from engine.checkpoints import (
    AUDIO_ENCODER_FILE,
    CODEC_FILE,
    MODEL_FILE,
    UNET_FILE,
    load_audio_encoder,
    resolve_model,
)
from engine.media import U8
from engine.models.whisper import WhisperEncoder
from engine.spec import AudioSpec, CodecSpec, ModelSpec, UNetSpec
from training.codec import fresh_codec
from training.dataset import BUNDLED_FACE, CropStore, SpeechStore
from training.denoiser import CHANGE_WEIGHT, HEARING_WEIGHT, TAUGHT_SHARE, grouped
from training.hearing import (
    TaughtFilm,
    drawing_unet,
    exported,
    following_unet,
    mouth_tokens,
    read_mouth_linearly,
)
from training.model_crops import ClipEncoder, SpokenClips, latent_weight, spoken_clips
from training.optimise import Recipe, Run, step_generator
from training.painting import latent_loss

RESOLUTION: Final = 64
CHANNELS: Final = 24
TIMESTEP: Final = 999
PICTURES: Final = 2000  # that the codec's components are taken from


def small_spec(audio: AudioSpec) -> ModelSpec:
    """The model as it is trained: whole windows."""
    scale = RESOLUTION / BUNDLED_FACE.crop_width
    (ax, ay), (bx, by), (cx, cy) = BUNDLED_FACE.template
    face = dataclasses.replace(
        BUNDLED_FACE,
        template=((ax * scale, ay * scale), (bx * scale, by * scale), (cx * scale, cy * scale)),
        crop_width=RESOLUTION,
        crop_height=RESOLUTION,
    )
    return ModelSpec(
        name="small-bidirectional",
        licence="Apache-2.0",
        resolution=RESOLUTION,
        audio=audio,
        unet=UNetSpec(
            in_channels=3 * CHANNELS + 1,
            out_channels=CHANNELS,
            block_out_channels=(32, 48),
            attention_blocks=(True, True),
            layers_per_block=1,
            attention_heads=4,
            cross_attention_dim=audio.width,
            audio_tokens=audio.tokens,
            norm_num_groups=16,
            motion_heads=4,
            motion_decoder_only=True,
            time_scale_shift=True,
            audio_film=True,
            reference_gate=True,
        ),
        codec=CodecSpec(kind="tiny", latent_channels=CHANNELS, width=32, blocks=1),
        face=face,
        prediction_type="sample",
        timesteps=(TIMESTEP,),
        carry="pinned",
    )


@dataclass(frozen=True, slots=True)
class Steps:
    """Of the two phases: drawing single frames, and following speech in whole windows."""

    draw: int = 400
    follow: int = 300


def halved(crops: U8, resolution: int = RESOLUTION) -> U8:
    """uint8 [n, resolution, resolution, 3]: area means of larger crops."""
    size = (resolution, resolution)
    small = [cv2.resize(crop, size, interpolation=cv2.INTER_AREA) for crop in crops]
    return np.asarray(np.stack(small), np.uint8)


class SmallTraining:
    """Trains the model in a folder of its own; resumes."""

    def __init__(self, corpus: Path, folder: Path) -> None:
        bundled = resolve_model("bundled")
        heard = ModelSpec.read(bundled)
        self._encoder: WhisperEncoder = load_audio_encoder(bundled, heard)
        self._spec = small_spec(heard.audio)
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundled / AUDIO_ENCODER_FILE, folder / AUDIO_ENCODER_FILE)
        self._store = CropStore.open(corpus / "faces")
        self._speech = SpeechStore(heard.audio, corpus / "speech")
        codec = fresh_codec(self._spec.codec, halved(self._store.sample(PICTURES, "train", 0)))
        codec.eval().requires_grad_(False)
        save_file(
            {key: value.contiguous() for key, value in codec.state_dict().items()},
            folder / CODEC_FILE,
        )
        self._spec = dataclasses.replace(self._spec, codec=codec.spec)
        self._encode = ClipEncoder(self._spec, codec, self._encoder)
        self._weight = latent_weight(self._spec)

    def run(self, steps: Steps) -> Path:
        """Both phases; the folder."""
        drawn = self._folder / "drawn.weights"
        self._draw(Recipe(steps.draw, 48, 2e-3, average=0.99, warmup=50), drawn)
        self._follow(Recipe(steps.follow, 4, 1.5e-3, average=0.99, warmup=50, seed=2), drawn)
        (self._folder / MODEL_FILE).write_text(self._spec.to_json(), encoding="utf-8")
        return self._folder

    def _clips(self, shape: tuple[int, int], seed: int) -> SpokenClips:
        return spoken_clips(self._store, self._speech, self._spec, shape, "train", seed)

    def _noise(self, clips: int, random: torch.Generator, frames: int) -> Tensor:
        size = self._spec.latent_size
        noise = torch.randn(clips, CHANNELS, 1, size, size, generator=random)
        return noise.expand(-1, -1, frames, -1, -1)

    def _draw(self, recipe: Recipe, path: Path) -> None:
        """Single frames that are told their mouth (`training.denoiser`, phase `render`)."""
        torch.manual_seed(recipe.seed)
        unet = drawing_unet(self._spec.unet)
        run = self._begin(unet, recipe, [{"params": list(unet.parameters()), "scale": 1.0}], path)
        timestep = torch.full((recipe.batch,), float(TIMESTEP))
        for batch in run.steps(
            lambda number: self._clips((recipe.batch, 1), number),
            lambda: save_file({k: v.contiguous() for k, v in run.average.values.items()}, path),
        ):
            assert batch.mouth is not None
            clip = self._encode(batch)
            noise = self._noise(recipe.batch, step_generator(recipe, run.step), 1)
            told = mouth_tokens(batch.mouth[:, 0], self._spec.audio.width)[:, None]
            predicted = unet(clip.network_input(noise), timestep, told)
            loss = latent_loss(predicted, clip.whole, self._weight)
            run.learn(loss, {"latents": loss})

    def _follow(self, recipe: Recipe, drawn: Path) -> None:
        """Whole windows of speech, in which all frames see all frames."""
        torch.manual_seed(recipe.seed)
        reading = read_mouth_linearly(self._encoder, self._store, self._speech)
        unet = following_unet(self._spec.unet, drawn, reading)
        film = unet.audio_film
        assert isinstance(film, TaughtFilm)
        path = self._folder / UNET_FILE
        run = self._begin(unet, recipe, grouped(unet), path)
        window = self._spec.window_frames
        timestep = torch.full((recipe.batch,), float(TIMESTEP))
        for batch in run.steps(
            lambda number: self._clips((recipe.batch, window), number),
            lambda: save_file(exported(run.average.values), path),
        ):
            assert batch.mouth is not None
            clip, random = self._encode(batch), step_generator(recipe, run.step)
            told = torch.rand(recipe.batch, generator=random) < TAUGHT_SHARE
            told = told[:, None].expand(-1, window).flatten()[:, None]
            film.taught = (batch.mouth.flatten(0, 1), told)
            noise = self._noise(recipe.batch, random, window)
            predicted = unet(clip.network_input(noise), timestep, clip.tokens)
            latents = latent_loss(predicted, clip.whole, self._weight)
            change = latent_loss(predicted.diff(dim=2), clip.whole.diff(dim=2), self._weight)
            total = latents + CHANGE_WEIGHT * change + HEARING_WEIGHT * film.misheard
            run.learn(total, {"latents": latents, "change": change, "misheard": film.misheard})

    @staticmethod
    def _begin(
        module: nn.Module, recipe: Recipe, groups: list[dict[str, object]], path: Path
    ) -> Run:
        run = Run(module, recipe, groups, path.with_suffix(".checkpoint.pt"))
        run.resume()
        return run
