"""How the denoiser hears: the audio path, its stand-in, and how one becomes the other."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.models.unet import AudioFilm, UNet3DConditionModel
from engine.models.whisper import WhisperEncoder
from engine.spec import AUDIO_STEPS, UNetSpec
from training.audio_encoder import vary
from training.dataset import CropStore, SpeechStore, windows_of
from training.mouth import MOUTH_PARAMETERS

log = logging.getLogger(__name__)

HIDDEN_GAIN: Final = 2.0  # spread of the mouth parameters' path into the audio film
LEAST_SPREAD: Final = 0.2  # of that path over a batch, in which all mouths may be at rest
READING_FRAMES: Final = 40_000
RIDGE: Final = 1e-3
SPREAD_RESTORED: Final = 0.7  # share of the spread that a regression loses


def bundled_unet_spec(latent_channels: int) -> UNetSpec:
    """The bundled denoiser's architecture."""
    return UNetSpec(
        in_channels=3 * latent_channels + 1,
        out_channels=latent_channels,
        block_out_channels=(64, 96, 128),
        attention_blocks=(False, True, True),
        layers_per_block=1,
        attention_heads=4,
        cross_attention_dim=128,
        audio_tokens=40,
        norm_num_groups=16,
        motion_heads=4,
        motion_decoder_only=True,
        per_frame_norm=True,
        time_scale_shift=True,
        audio_film=True,
        reference_gate=True,
        source_warp=True,
    )


class MouthFilm(nn.Module):
    """Stands in for the audio path while the network learns to draw.

    Same hidden layer and output as `AudioFilm`, but driven by mouth parameters
    that are passed as one audio token of the network's audio width.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(len(MOUTH_PARAMETERS), hidden)
        self.linear_2 = nn.Linear(hidden, hidden)
        with torch.no_grad():
            self.linear_1.weight.normal_(0.0, HIDDEN_GAIN)
            self.linear_1.bias.normal_(0.0, 1.0)

    def forward(self, audio: Tensor) -> Tensor:
        hidden = F.silu(self.linear_1(audio[:, 0, : len(MOUTH_PARAMETERS)]))
        return self.linear_2(hidden)  # type: ignore[no-any-return]


def drawing_unet(spec: UNetSpec) -> UNet3DConditionModel:
    """The U-Net without temporal modules and with the stand-in audio path."""
    unet = UNet3DConditionModel(spec)
    for block in unet.up_blocks:
        block.motion_modules = nn.ModuleList()
    unet.audio_film = MouthFilm(4 * spec.block_out_channels[0])  # type: ignore[assignment]
    for name, module in unet.named_modules():
        if name.endswith("attn2"):
            nn.init.zeros_(module.to_out[0].weight)
    return unet


def mouth_tokens(mouth: Tensor, width: int) -> Tensor:
    """[n, 1, width]: mouth parameters [n, 7] as the stand-in's one audio token."""
    return F.pad(mouth, (0, width - mouth.shape[1]))[:, None]


class TaughtFilm(AudioFilm):
    """The audio path, which can be told the true mouth instead of hearing it.

    Attributes:
        taught: mouth parameters [n, 7] and which of the n rows use them
            (bool [n, 1]); None: all rows listen.
    """

    taught: tuple[Tensor, Tensor] | None = None

    def __init__(self, tokens: int, width: int, stand_in: MouthFilm) -> None:
        super().__init__(tokens, width, stand_in.linear_2.out_features)
        self.linear_2 = stand_in.linear_2
        self.mouth = stand_in.linear_1

    def forward(self, audio: Tensor) -> Tensor:
        heard = self.linear_1(self.norm(audio).flatten(1))
        if self.taught is not None:
            mouth, chosen = self.taught
            truth = self.mouth(mouth).float()
            aim = truth.detach()
            spread = aim.var(dim=0).mean().clamp(min=LEAST_SPREAD)
            self.misheard = (heard.float() - aim).square().mean() / spread
            heard = torch.where(chosen, truth, heard.float()).to(heard.dtype)
        return self.linear_2(F.silu(heard))  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Reading:
    """Mouth parameters as a linear function of a frame's normed audio tokens.

    Attributes:
        weights: [7, tokens * width].
        biases: [7].
        spread: [7] the truth's standard deviation over that of what is read; a
            regression never reads the whole of it, so all are above 1.
    """

    weights: Tensor
    biases: Tensor
    spread: Tensor


def read_mouth_linearly(encoder: WhisperEncoder, store: CropStore, speech: SpeechStore) -> Reading:
    """Ridge regression from the last states of a frame's steps to mouth parameters."""
    spec = encoder.spec
    states = spec.layers + 1
    inputs, truths = [], []
    generator = torch.Generator().manual_seed(3)
    clips = [clip for clip in store.clips("train") if clip.speech]
    for clip in clips[:: max(1, sum(clip.frames for clip in clips) // READING_FRAMES)]:
        power = torch.from_numpy(speech.rows(clip, 0, clip.frames).T)[None]
        mel = windows_of(vary(power, generator), spec)[0]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            tokens = encoder(mel).float()
        last = F.layer_norm(tokens, tokens.shape[-1:])[:, states - 1 :: states]
        inputs.append(last.flatten(1))
        truths.append(torch.from_numpy(store.mouth(clip)))
    x, y = torch.cat(inputs).double(), torch.cat(truths).double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = x.T @ x + RIDGE * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    solved = torch.linalg.solve(gram, x.T @ y).T
    read = x @ solved.T
    left = 1 - ((read - y).square().mean(0) / y.square().mean(0))
    log.info("linear reading of the mouth: R2 %s", [round(float(v), 3) for v in left])
    weights = torch.zeros(len(MOUTH_PARAMETERS), AUDIO_STEPS, states, spec.width)
    weights[:, :, -1] = solved.float().reshape(len(MOUTH_PARAMETERS), AUDIO_STEPS, spec.width)
    biases = (y_mean - solved @ x_mean).float()
    return Reading(weights.flatten(1), biases, (y.std(0) / read.std(0)).float())


def widened(state: dict[str, Tensor], reading: Reading) -> dict[str, Tensor]:
    """`state` with livelier mouths: what is read of the sound gets most of its spread back.

    The audio path's first layer is a mix of the mouth parameters that are read
    off the tokens; each is scaled about the resting mouth, which is zero.
    """
    layer = state["audio_film.linear_1.weight"]
    mix = layer @ torch.linalg.pinv(reading.weights)
    gain = SPREAD_RESTORED * (reading.spread - 1.0)
    more = mix * gain
    return state | {
        "audio_film.linear_1.weight": layer + more @ reading.weights,
        "audio_film.linear_1.bias": state["audio_film.linear_1.bias"] + more @ reading.biases,
    }


def following_unet(spec: UNetSpec, drawn: Path, reading: Reading) -> UNet3DConditionModel:
    """The whole U-Net, drawing as `drawn` does and hearing by `reading`."""
    unet = UNet3DConditionModel(spec)
    stand_in = MouthFilm(4 * spec.block_out_channels[0])
    unet.audio_film = TaughtFilm(spec.audio_tokens, spec.cross_attention_dim, stand_in)
    state = load_file(drawn)
    state["audio_film.mouth.weight"] = state.pop("audio_film.linear_1.weight")
    state["audio_film.mouth.bias"] = state.pop("audio_film.linear_1.bias")
    missing, unexpected = unet.load_state_dict(state, strict=False)
    new = [key for key in missing if "motion_modules" not in key and "audio_film" not in key]
    if new or unexpected:
        raise ValueError(f"{drawn}: absent {new}, unexpected {unexpected}")
    with torch.no_grad():
        film, mouth = unet.audio_film, stand_in.linear_1
        film.linear_1.weight.copy_(mouth.weight @ reading.weights)
        film.linear_1.bias.copy_(mouth.bias + mouth.weight @ reading.biases)
    return unet


def exported(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """`state` as the engine knows it: without the path of the taught mouth."""
    kept = {key: value for key, value in state.items() if not key.startswith("audio_film.mouth")}
    return {key: value.contiguous() for key, value in kept.items()}
