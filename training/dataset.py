"""The corpus on disk: rendered crops (`training.faces`) and speech (`training.speech`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.media import F32, FRAME_SAMPLES, U8
from engine.spec import AudioSpec, FaceSpec
from training.speech.features import MELS_PER_FRAME, log_power

CORPUS_FOLDER: Final = Path(".scratch/corpus")
TRAIN_FOLDER: Final = Path(".scratch/train")

RESOLUTION: Final = 128
# The square x 8.5..66.5, y 41..99 in units of LatentSync's template (brow centres at
# (17, 20) and (58, 20), nose at (37.5, 40)): the lower face, with room for a dropped jaw.
BUNDLED_FACE: Final = FaceSpec(
    template=((18.7586, -46.3448), (109.2414, -46.3448), (64.0, -2.2069)),
    crop_width=RESOLUTION,
    crop_height=RESOLUTION,
    mask=(0.5, 0.534, 0.44, 0.431),
    mask_exponent=3.0,
    paste="crop_mask",
)

F16 = NDArray[np.float16]
Split = Literal["train", "test"]

# The lips at every opening, in crop units 0..1: left, top, right, bottom.
MOUTH_BOX: Final = (0.25, 0.33, 0.75, 0.80)


def mouth_weight(size: int, gain: float) -> Tensor:
    """[size, size] loss weights: `gain` in the mouth's box, 1 outside of it."""
    left, top, right, bottom = (round(edge * size) for edge in MOUTH_BOX)
    weight = torch.ones(size, size)
    weight[top:bottom, left:right] = gain
    return weight


def to_tensor(crops: U8) -> Tensor:
    """float32 [n, 3, R, R] in [-1, 1] of RGB crops [n, R, R, 3]."""
    planes = torch.from_numpy(np.ascontiguousarray(crops.transpose(0, 3, 1, 2)))
    return planes.float().div_(127.5).sub_(1.0)


def colour_jitter(images: Tensor, generator: torch.Generator, group: int = 1) -> Tensor:
    """`images` [n, 3, R, R] in [-1, 1], each `group` of them with its own gain, offset and tint.

    The images are changed in place.
    """
    n = len(images) // group

    def spread(amount: float, channels: int = 1) -> Tensor:
        values = torch.rand(n, channels, 1, 1, generator=generator)
        return ((values * 2 - 1) * amount).repeat_interleave(group, 0)

    gain = (1 + spread(0.2)) * (1 + spread(0.08, 3))
    return images.mul_(gain).add_(gain - 1 + spread(0.12)).clamp_(-1, 1)


@dataclass(frozen=True, slots=True)
class Clip:
    """Consecutive frames of one face that speaks.

    Attributes:
        shard: index of the shard that holds the frames.
        first, frames: where in the shard.
        identity: the face.
        speech: name of the speech clip; `start_frame` is where in it frame 0 lies.
    """

    shard: int
    first: int
    frames: int
    identity: int
    split: Split
    speech: str
    start_frame: int


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames with their sources.

    Attributes:
        crops, sources: uint8 [n, R, R, 3], with the mouth that is said and with another.
        motion: float32 [n, s, s, 2] from the first to the second, in cells of R / s pixels.
        mouth: float32 [n, 7].
    """

    crops: U8
    sources: U8
    motion: F32
    mouth: F32

    def part(self, start: int, end: int) -> Frames:
        """The frames from `start` to before `end`."""
        rows = slice(start, end)
        return Frames(self.crops[rows], self.sources[rows], self.motion[rows], self.mouth[rows])


class CropStore:
    """Rendered crops on disk, read through memory maps."""

    def __init__(
        self,
        crops: Sequence[U8],
        sources: Sequence[U8],
        motions: Sequence[F16],
        mouths: Sequence[F32],
        clips: Sequence[Clip],
    ) -> None:
        self._crops, self._sources, self._motions = crops, sources, motions
        self._mouths = mouths
        self._by_split: dict[Split, list[Clip]] = {
            split: [clip for clip in clips if clip.split == split] for split in get_args(Split)
        }

    @classmethod
    def open(cls, folder: Path = CORPUS_FOLDER / "faces") -> CropStore:
        """The store in `folder`: shards of `crops_`, `source_`, `flow_`, `mouth_XX.npy`, a JSON."""
        crops, sources, motions, mouths, clips = [], [], [], [], []
        for shard, path in enumerate(sorted(folder.glob("crops_*.json"))):
            number = path.stem.removeprefix("crops_")
            crops.append(np.load(folder / f"crops_{number}.npy", mmap_mode="r"))
            sources.append(np.load(folder / f"source_{number}.npy", mmap_mode="r"))
            motions.append(np.load(folder / f"flow_{number}.npy", mmap_mode="r"))
            mouths.append(np.load(folder / f"mouth_{number}.npy"))
            entries = json.loads(path.read_text())
            clips += [Clip(shard=shard, **entry) for entry in entries]
        return cls(crops, sources, motions, mouths, clips)

    def clips(self, split: Split) -> list[Clip]:
        return self._by_split[split]

    def crops(self, clip: Clip) -> U8:
        """uint8 [frames, R, R, 3]."""
        return np.asarray(self._crops[clip.shard][clip.first : clip.first + clip.frames])

    def mouth(self, clip: Clip) -> F32:
        """float32 [frames, 7]: the mouth as drawn."""
        return self._mouths[clip.shard][clip.first : clip.first + clip.frames]

    def source(self, clip: Clip) -> U8:
        """uint8 [frames, R, R, 3]: the same frames with another mouth."""
        return np.asarray(self._sources[clip.shard][clip.first : clip.first + clip.frames])

    def sample_labelled(self, count: int, split: Split, seed: int) -> tuple[U8, F32]:
        """`count` random frames, faces drawn evenly, and their mouths."""
        rng = np.random.default_rng(seed)
        clips = self.clips(split)
        chosen = [clips[i] for i in rng.integers(len(clips), size=count)]
        places = [(clip.shard, clip.first + int(rng.integers(clip.frames))) for clip in chosen]
        crops = np.stack([self._crops[shard][row] for shard, row in places])
        return crops, np.stack([self._mouths[shard][row] for shard, row in places])

    def motion(self, clip: Clip) -> F32:
        """float32 [frames, s, s, 2]: dx, dy in cells from a frame's pixels to its source's."""
        rows = slice(clip.first, clip.first + clip.frames)
        return np.asarray(self._motions[clip.shard][rows], np.float32)

    def draw_frames(self, count: int, split: Split, rng: np.random.Generator) -> Frames:
        """Random single frames, faces drawn evenly."""
        clips = self.clips(split)
        chosen = [clips[index] for index in rng.integers(len(clips), size=count)]
        places = [(clip.shard, clip.first + int(rng.integers(clip.frames))) for clip in chosen]
        return Frames(
            np.stack([self._crops[shard][row] for shard, row in places]),
            np.stack([self._sources[shard][row] for shard, row in places]),
            np.stack([self._motions[shard][row] for shard, row in places]).astype(np.float32),
            np.stack([self._mouths[shard][row] for shard, row in places]),
        )

    def run_of_frames(self, clip: Clip, start: int, count: int) -> Frames:
        """`count` frames of a clip in order, from its frame `start` on."""
        whole = Frames(self.crops(clip), self.source(clip), self.motion(clip), self.mouth(clip))
        return whole.part(start, start + count)

    def sample(self, count: int, split: Split, seed: int) -> U8:
        """uint8 [count, R, R, 3]: random frames."""
        return self.sample_labelled(count, split, seed)[0]


class SpeechStore:
    """Log10 mel power of the speech that clips show."""

    def __init__(self, spec: AudioSpec, folder: Path = CORPUS_FOLDER / "speech") -> None:
        self.spec, self._folder = spec, folder
        self._audio: dict[str, NDArray[np.int16]] = {}
        self._clips: dict[str, list[dict[str, int]]] = {}
        self._power: dict[str, NDArray[np.float16]] = {}

    def power(self, speech: str) -> NDArray[np.float16]:
        """[rows, n_mels] of the speech clip named "SPLIT/INDEX" (`log_power`)."""
        if speech not in self._power:
            split, index = speech.split("/")
            if split not in self._clips:
                folder = self._folder / split
                self._clips[split] = json.loads((folder / "clips.json").read_text())
                self._audio[split] = np.load(folder / "audio.npy", mmap_mode="r")
            entry = self._clips[split][int(index)]
            start, frames = entry["start"], entry["frames"]
            samples = self._audio[split][start * FRAME_SAMPLES : (start + frames) * FRAME_SAMPLES]
            power = log_power(np.asarray(samples, np.float32) / 32767.0, self.spec)
            self._power[speech] = power.astype(np.float16)
        return self._power[speech]

    def rows(self, clip: Clip, first: int, frames: int) -> F32:
        """[mel_frames + 4 (frames - 1), n_mels]: all windows of frames `first` .. of `clip`."""
        row = MELS_PER_FRAME * (clip.start_frame + first)
        count = self.spec.mel_frames + MELS_PER_FRAME * (frames - 1)
        return self.power(clip.speech)[row : row + count].astype(np.float32)


def windows_of(power: Tensor, spec: AudioSpec) -> Tensor:
    """[b, f, n_mels, mel_frames] log-mel windows of log10 power [b, n_mels, rows]."""
    log_mel = (power.clamp_min(spec.log_floor) + 4.0) / 4.0
    return log_mel.unfold(2, spec.mel_frames, MELS_PER_FRAME).transpose(1, 2)
