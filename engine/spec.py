"""What a model is: architecture, geometry and time, read from its `model.json`.

Everything that other modules derive from a model (token counts, look-ahead,
latent size) is computed here, once, with its unit in its name.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from engine.errors import ConfigError
from engine.media import FRAME_SAMPLES, MEL_HOP_SAMPLES, MEL_WINDOW_SAMPLES, STEP_SAMPLES

PredictionType = Literal["epsilon", "v_prediction", "sample"]
CarryMode = Literal["disjoint", "pinned", "carry", "causal"]
FloorKind = Literal["fixed", "running"]
PasteMode = Literal["latentsync", "crop_mask"]
MASK_PICTURE: Final = "png:"  # what a mask begins with that is a picture
ReferenceMode = Literal["frame", "session"]
StartMode = Literal["noise", "warm"]
Solver = Literal["ddim", "renoise"]

AUDIO_STEPS = 10  # encoder positions that drive a frame: c - 4 .. c + 5 with c = 2 i
AUDIO_STEPS_AHEAD = 6  # of them at or after the frame's own start

COVER_CELLS = 4  # cover values along a latent's side
WARP_CHANNELS = 2 + COVER_CELLS**2  # of one latent: dx, dy and its cover values


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True)
class AudioSpec:
    """The Whisper-shaped audio encoder and the window it sees for one frame.

    Of the window's positions (20 ms each, two log-mel frames) the last `tail` hold silence, the
    `guard` before them sound that the frame's steps c - 4 .. c + 5 need to settle, and the ten
    before those are emitted.

    Attributes:
        width: channels of the encoder, also the U-Net's cross-attention width.
        layers: transformer blocks; a step yields layers + 1 states.
        positions: encoder positions of one window, guard and tail included.
        log_floor: log10 mel power below which the log-mel is clipped.
        floor: "fixed": at `log_floor`; "running": 8 below the loudest value of the segment up
            to the window's end, and no lower than `log_floor`.
        floor_fall: log10 a second by which a running floor falls again after a loud sound.
        guard: steps after c + 5 that are encoded and not emitted; each is 20 ms of look-ahead.
        tail: positions of silence after the last sound; they cost no look-ahead.
        table_positions: rows of the position table, Whisper's 1500; 0: as many as `positions`.
        first_row: the table's row that a window begins with.
    """

    n_mels: int = 80
    width: int = 384
    layers: int = 4
    heads: int = 6
    positions: int = 100
    log_floor: float = -6.5
    floor: FloorKind = "fixed"
    floor_fall: float = 0.1
    guard: int = 0
    tail: int = 0
    table_positions: int = 0
    first_row: int = 0

    def __post_init__(self) -> None:
        _expect(self.width % self.heads == 0, f"audio width {self.width} % heads {self.heads} != 0")
        _expect(
            self.floor in get_args(FloorKind),
            f"expected an audio floor of {get_args(FloorKind)}, got {self.floor!r}",
        )
        _expect(
            min(self.guard, self.tail, self.first_row, self.table_positions, self.floor_fall) >= 0,
            "expected audio guard, tail, table_positions, first_row and floor_fall >= 0, got "
            f"{self.guard}, {self.tail}, {self.table_positions}, {self.first_row} and "
            f"{self.floor_fall}",
        )
        _expect(
            self.positions >= AUDIO_STEPS + self.guard + self.tail,
            f"expected at least {AUDIO_STEPS + self.guard + self.tail} audio positions, "
            f"got {self.positions}",
        )
        _expect(
            self.first_row + self.positions <= self.table_rows,
            f"expected a window within {self.table_rows} rows of positions, got rows "
            f"{self.first_row} to {self.first_row + self.positions}",
        )

    @property
    def table_rows(self) -> int:
        """Rows of the position table."""
        return self.table_positions or self.positions

    @property
    def tokens(self) -> int:
        """Audio tokens of one frame: 10 steps of layers + 1 states."""
        return AUDIO_STEPS * (self.layers + 1)

    @property
    def mel_frames(self) -> int:
        """Log-mel frames (10 ms) in the window of one frame."""
        return 2 * self.positions

    @property
    def sound_frames(self) -> int:
        """Those of them that hold sound: all but the tail."""
        return 2 * (self.positions - self.tail)

    @property
    def lookahead_samples(self) -> int:
        """Samples after a frame's end that its window reads: 1320 (82.5 ms) and 320 a guard step.

        Steps reach 80 ms past the frame; the last log-mel frame is centred
        10 ms before that and reads 12.5 ms on either side.
        """
        steps = AUDIO_STEPS_AHEAD + self.guard
        end = steps * STEP_SAMPLES - MEL_HOP_SAMPLES + MEL_WINDOW_SAMPLES // 2
        return end - FRAME_SAMPLES


@dataclass(frozen=True, slots=True)
class UNetSpec:
    """Constructor arguments of `engine.models.unet.UNet3DConditionModel`.

    The defaults are LatentSync 1.5's stage 2.

    Attributes:
        attention_heads: number of heads (upstream calls it `attention_head_dim`).
        per_frame_norm: GroupNorm statistics per frame instead of pooled over
            the window (upstream: `use_inflated_groupnorm`).
        motion_decoder_only: temporal modules in the up blocks only.
        time_scale_shift: the time embedding scales and shifts (FiLM) instead of adding.
        audio_film: pool the frame's audio tokens into the time embedding.
        reference_gate: predict a gate beside the clean latents, which shows the
            reference latents where they need no change (for the prediction "sample").
        source_warp: predict beside the latents how the source picture moves, and where the
            decoded picture covers it: `WARP_CHANNELS` more outputs (`engine.face.warp`).
    """

    in_channels: int = 13
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention_blocks: tuple[bool, ...] = (True, True, True, False)
    layers_per_block: int = 2
    attention_heads: int = 8
    cross_attention_dim: int = 384
    audio_tokens: int = 50
    norm_num_groups: int = 32
    motion_heads: int = 8
    motion_positions: int = 24
    motion_decoder_only: bool = False
    per_frame_norm: bool = False
    time_scale_shift: bool = False
    audio_film: bool = False
    reference_gate: bool = False
    source_warp: bool = False

    @property
    def prediction_channels(self) -> int:
        """Channels that the network gives: latents, then the warp where there is one."""
        return self.out_channels + (WARP_CHANNELS if self.source_warp else 0)

    def __post_init__(self) -> None:
        _expect(
            len(self.attention_blocks) == len(self.block_out_channels),
            "expected one attention_blocks flag for each of block_out_channels",
        )


@dataclass(frozen=True, slots=True)
class CodecSpec:
    """The picture codec.

    Attributes:
        kind: "tiny" (`engine.models.tiny_codec`), "kl" (the Stable Diffusion VAE) or "taesd"
            (`engine.models.taesd`, whose latents are the scaled ones: scaling_factor 1).
        downscale: pixels per latent, each way.
        width: channels of the tiny decoder; unused by the other kinds.
        blocks: residual blocks of the tiny decoder at each of its resolutions.
        encoder_width: channels of the branch beside the tiny codec's linear
            encoder; 0 for a purely linear encoder.
        decoder: "own", or a TAESD-shaped one, from a file of its own, beside the "kl" encoder.
        decode_rows: decode only the rows of the picture that are shown
            (`engine.models.row_decoder`); not of the kind "tiny".
        block_out_channels, layers_per_block, norm_num_groups: of the kind "kl", as diffusers
            names them.
    """

    kind: Literal["tiny", "kl", "taesd"] = "kl"
    latent_channels: int = 4
    downscale: int = 8
    scaling_factor: float = 0.18215
    width: int = 64
    blocks: int = 2
    encoder_width: int = 0
    decoder: Literal["own", "taesd"] = "own"
    decode_rows: bool = False
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32

    def __post_init__(self) -> None:
        kinds = ("tiny", "kl", "taesd")
        _expect(self.kind in kinds, f"expected a codec of {kinds}, got {self.kind!r}")
        _expect(
            self.decoder == "own" or (self.kind, self.decoder) == ("kl", "taesd"),
            "expected the codec's own decoder, or taesd beside kl, "
            f"got {self.decoder!r} beside {self.kind!r}",
        )
        _expect(
            not self.decode_rows or self.kind != "tiny",
            "expected decode_rows of a kl or taesd decoder, got it of the tiny one",
        )
        _expect(
            self.kind != "taesd" or self.scaling_factor == 1.0,
            f"expected a scaling_factor of 1, got {self.scaling_factor} for taesd",
        )
        _expect(
            "taesd" not in (self.kind, self.decoder) or self.downscale == 8,
            f"expected a downscale of 8 for taesd, got {self.downscale}",
        )
        levels = 2 ** (len(self.block_out_channels) - 1)
        _expect(
            self.kind != "kl" or self.downscale == levels,
            f"expected a downscale of {levels} for the levels {self.block_out_channels}, "
            f"got {self.downscale}",
        )
        _expect(
            all(width % self.norm_num_groups == 0 for width in self.block_out_channels),
            f"expected multiples of {self.norm_num_groups} groups, got {self.block_out_channels}",
        )


@dataclass(frozen=True, slots=True)
class FaceSpec:
    """Where the crop lies on a face and which part of it is generated.

    Attributes:
        template: left brow, right brow, nose in pixels of the warped crop; a
            point may lie outside of it.
        crop_width, crop_height: pixels of the warped crop, before it is
            resized to the square that the network sees.
        mask: "latentsync" (LatentSync 1.5's outline); a picture of another, as
            `MASK_PICTURE` and its PNG in base 64; or four numbers of a
            superellipse in crop units 0..1: centre x, centre y, radius x,
            radius y, whose exponent is `mask_exponent`.
        paste: how a generated crop returns to the picture.
    """

    template: tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
    crop_width: int
    crop_height: int
    mask: str | tuple[float, float, float, float] = "latentsync"
    mask_exponent: float = 4.0
    paste: PasteMode = "latentsync"

    def __post_init__(self) -> None:
        if isinstance(self.mask, str):
            _expect(
                self.mask == "latentsync" or self.mask.startswith(MASK_PICTURE),
                f"face.mask: expected 'latentsync', {MASK_PICTURE!r} and a PNG in base 64, or four "
                f"numbers of a superellipse, got {self.mask[:40]!r}",
            )


LATENTSYNC_FACE_256 = FaceSpec(
    template=((47.6, 56.0), (162.4, 56.0), (105.0, 112.0)), crop_width=210, crop_height=280
)


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model folder's `model.json`.

    Attributes:
        resolution: pixels of the square face crop that the network sees.
        timesteps: served timesteps, highest first; their number is the step count.
        solver: from one timestep to the next by the predicted noise (DDIM, eta 0), or by the
            session's own fixed noise of that step.
        start: the first timestep starts from noise, or from the frame before, noised.
        carry: how frames of earlier hops are seen (`engine.denoise`).
        refresh_hops: in mode "carry", every so many hops the whole window is computed anew;
            0: never.
        reference: the reference latents are each frame's own, or the session's first.
        window_frames: frames a temporal layer sees at once (W).
        hop_frames: default new frames a call (h); the context is W - h.
        guidance_scale: 1.0 asks the network once; above, also without sound.
        guided_steps: indices of `timesteps` at which it is asked so; None: at all.
        digests: file name -> SHA-256 of the files beside `model.json`.
    """

    name: str
    licence: str
    resolution: int
    audio: AudioSpec
    unet: UNetSpec
    codec: CodecSpec
    face: FaceSpec
    prediction_type: PredictionType = "epsilon"
    timesteps: tuple[int, ...] = (999,)
    solver: Solver = "ddim"
    start: StartMode = "noise"
    carry: CarryMode = "pinned"
    refresh_hops: int = 0
    reference: ReferenceMode = "frame"
    window_frames: int = 16
    hop_frames: int = 4
    guidance_scale: float = 1.0
    guided_steps: tuple[int, ...] | None = None
    digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kind in (
            ("prediction_type", PredictionType),
            ("solver", Solver),
            ("start", StartMode),
            ("carry", CarryMode),
            ("reference", ReferenceMode),
        ):
            value = getattr(self, name)
            _expect(
                value in get_args(kind), f"expected a {name} of {get_args(kind)}, got {value!r}"
            )
        _expect(
            self.refresh_hops == 0 or (self.refresh_hops > 0 and self.carry == "carry"),
            "expected refresh_hops of 0, or more in the mode 'carry', "
            f"got {self.refresh_hops} in {self.carry!r}",
        )
        _expect(self.guidance_scale >= 1.0, f"expected guidance >= 1, got {self.guidance_scale}")
        _expect(
            self.guided_steps is None
            or all(0 <= step < len(self.timesteps) for step in self.guided_steps),
            f"expected guided_steps among 0 to {len(self.timesteps) - 1}, got {self.guided_steps}",
        )
        _expect(
            self.resolution % self.codec.downscale == 0,
            f"resolution {self.resolution} is no multiple of the codec's {self.codec.downscale}",
        )
        _expect(
            len(self.timesteps) > 0 and list(self.timesteps) == sorted(set(self.timesteps))[::-1],
            f"expected timesteps that fall, got {self.timesteps}",
        )
        _expect(
            1 <= self.hop_frames <= self.window_frames <= self.unet.motion_positions,
            f"expected 1 <= hop {self.hop_frames} <= window {self.window_frames} "
            f"<= positions {self.unet.motion_positions}",
        )
        _expect(
            self.unet.in_channels == 3 * self.codec.latent_channels + 1,
            f"expected {3 * self.codec.latent_channels + 1} U-Net input channels (noisy, mask, "
            f"masked, reference), got {self.unet.in_channels}",
        )
        _expect(
            not self.unet.source_warp or self.face.paste != "latentsync",
            "expected the paste 'crop_mask' of a model with a source_warp, got 'latentsync'",
        )
        _expect(
            self.unet.cross_attention_dim == self.audio.width
            and self.unet.audio_tokens == self.audio.tokens,
            f"the U-Net expects {self.unet.audio_tokens} x {self.unet.cross_attention_dim} audio "
            f"tokens, the encoder gives {self.audio.tokens} x {self.audio.width}",
        )

    @property
    def latent_size(self) -> int:
        return self.resolution // self.codec.downscale

    def guided(self, step: int) -> bool:
        """Whether the network is asked twice, with and without sound, at `timesteps[step]`."""
        among = self.guided_steps is None or step in self.guided_steps
        return self.guidance_scale > 1.0 and among

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """The spec in `text`.

        Raises:
            ConfigError: no JSON, an unknown or absent key, or a value out of range.
        """
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"model.json: expected JSON, {error}") from error
        _expect(isinstance(data, dict), "model.json: expected an object")
        parts: dict[str, Any] = {
            "audio": AudioSpec,
            "unet": UNetSpec,
            "codec": CodecSpec,
            "face": FaceSpec,
        }
        for key, kind in parts.items():
            _expect(isinstance(data.get(key), dict), f"model.json: expected an object {key!r}")
            data[key] = _build(kind, data[key], f"model.json: {key}")
        spec: ModelSpec = _build(cls, data, "model.json")
        return spec

    @classmethod
    def read(cls, folder: Path) -> ModelSpec:
        """The spec of a model folder.

        Raises:
            ConfigError: `model.json` is absent or wrong.
        """
        path = folder / "model.json"
        if not path.is_file():
            raise ConfigError(f"expected a model folder with a model.json, found none in {folder}")
        return cls.from_json(path.read_text(encoding="utf-8"))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _build(kind: Any, data: dict[str, Any], where: str) -> Any:
    known = {item.name for item in dataclasses.fields(kind)}
    unknown = sorted(set(data) - known)
    _expect(not unknown, f"{where}: unknown keys {unknown}, expected some of {sorted(known)}")
    try:
        return kind(**{key: _tuples(value) for key, value in data.items()})
    except TypeError as error:
        raise ConfigError(f"{where}: {error}") from error
