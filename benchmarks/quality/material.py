"""Two faces that speak, with the truth of every frame: what quality is measured on.

`speech.npz` beside this file (`benchmarks.quality.speak` wrote it) holds sound and mouth
tracks of voices that no model of ours heard; it comes with the repository, so that
measuring needs no synthesiser. Faces are drawn when they are wanted, from
identity numbers that training holds out: truth (the mouth that the sound asks for), source
(the same frames with a resting mouth, as an avatar's idle clip) and the same face saying
what the other take says, from which the reader of openings learns.

A take loops: sound, head and mouth end where they begin, so that ten minutes can be had
from thirteen seconds. Its length is no multiple of any hop, so that hop borders fall on
other words in every round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from engine.audio.features import FeatureStream
from engine.errors import LipwireError
from engine.face.align import align_affine
from engine.face.paste_back import square_affine
from engine.media import F32, FRAME_SAMPLES, U8
from engine.spec import AudioSpec, FaceSpec, ModelSpec

if TYPE_CHECKING:
    from training.faces.identity import Identity
    from training.faces.light import Light
    from training.faces.pose import Pose

    _Renderer = Callable[[F32, Pose], U8]

PATH: Final = Path(__file__).with_name("speech.npz")
TAKE_FRAMES: Final = 325

# The lips at every opening, in units of LatentSync's template (brow centres at (17, 20) and
# (58, 20), nose at (37.5, 40)): left, top, right, bottom.
LIPS: Final = (23.0, 60.0, 52.0, 87.5)
_TEMPLATE: Final = np.asarray(((17.0, 20.0), (58.0, 20.0), (37.5, 40.0)), np.float32)

# Identity numbers from a million on are the test split's (`training.faces.corpus`).
FACES: Final = ((1_000_002, 21), (1_000_001, 22))


@dataclass(frozen=True, slots=True)
class Speech:
    """What a take says.

    Attributes:
        samples: float32 [frames * 640], 16 kHz.
        mouth: float32 [frames, 7], see `training.mouth`.
    """

    samples: F32
    mouth: F32


@dataclass(frozen=True, slots=True)
class Take:
    """One face that says one speech, as crops of a model's geometry.

    Attributes:
        source, truth: uint8 RGB [frames, R, R, 3].
        reader: crops [n, R, R, 3] of the same face, whose mouths are `reader_mouth` [n, 7].
        mel: float32 [frames, n_mels, mel_frames] of a round that others precede and follow.
        wrong_mel: the same of the other take's speech.
    """

    speech: Speech
    source: U8
    truth: U8
    reader: U8
    reader_mouth: F32
    mel: F32
    wrong_mel: F32

    @property
    def frames(self) -> int:
        """Frames of one round."""
        return len(self.mel)


def load_speeches(path: Path = PATH) -> list[Speech]:
    """The takes' sound and mouths."""
    with np.load(path) as stored:
        return [
            Speech(
                stored[f"samples_{index}"].astype(np.float32) / 32767.0,
                stored[f"mouth_{index}"].astype(np.float32),
            )
            for index in range(len(FACES))
        ]


def make_takes(
    spec: ModelSpec, frames: int = TAKE_FRAMES, reader_frames: int = TAKE_FRAMES
) -> list[Take]:
    """The takes as crops for a model.

    Args:
        frames: how many of the take's frames; fewer do not loop seamlessly.
        reader_frames: from how many the reader learns.

    Raises:
        LipwireError: scipy is absent, which the renderer needs.
    """
    try:
        from training.faces.renderer import CropRenderer  # noqa: F401
    except ModuleNotFoundError as error:
        raise LipwireError(
            f'faces are drawn with scipy ({error}); pip install -e ".[bench]"'
        ) from error
    speeches = load_speeches()
    mels = [looped_mel(speech.samples, spec.audio)[:frames] for speech in speeches]
    takes = []
    for index, (speech, (identity, seed)) in enumerate(zip(speeches, FACES, strict=True)):
        draw = Drawer(spec.face, spec.resolution, identity, seed)
        other = speeches[(index + 1) % len(speeches)].mouth[:reader_frames]
        mouth = speech.mouth[:frames]
        takes.append(
            Take(
                Speech(speech.samples[: frames * FRAME_SAMPLES], mouth),
                source=draw.crops(np.zeros_like(mouth)),
                truth=draw.crops(mouth),
                reader=draw.crops(other, offset=11),
                reader_mouth=other,
                mel=mels[index],
                wrong_mel=mels[(index + 1) % len(mels)],
            )
        )
    return takes


def looped_mel(samples: F32, audio: AudioSpec) -> F32:
    """float32 [frames, n_mels, mel_frames] of sound that goes round and round.

    Raises:
        ValueError: samples that are not whole frames.
    """
    frames, rest = divmod(len(samples), FRAME_SAMPLES)
    if rest:
        raise ValueError(f"expected whole frames of {FRAME_SAMPLES} samples, got {rest} more")
    before = -(-audio.mel_frames // 4) + 4  # frames that the window reaches back, and a few
    rounds = -(-before // frames) + 2
    stream = FeatureStream(audio)
    stream.push(np.tile(samples, rounds + 1))
    first = (rounds - 1) * frames
    return stream.windows(range(first, first + frames))


def shortened(take: Take, frames: int) -> Take:
    """The first frames of a take, which then begins again; its reader sees as much as before."""
    speech = Speech(take.speech.samples[: frames * FRAME_SAMPLES], take.speech.mouth[:frames])
    return replace(
        take,
        speech=speech,
        source=take.source[:frames],
        truth=take.truth[:frames],
        mel=take.mel[:frames],
        wrong_mel=take.wrong_mel[:frames],
    )


def lips_box(face: FaceSpec, resolution: int) -> tuple[int, int, int, int]:
    """Where the lips lie in a model's crop: left, top, right, bottom in pixels, inside of it."""
    affine = square_affine(align_affine(_TEMPLATE, face), face, resolution)
    corners = np.asarray((LIPS[:2], LIPS[2:]), np.float32) @ affine[:, :2].T + affine[:, 2]
    left, top, right, bottom = (int(v) for v in np.clip(np.round(corners), 0, resolution).ravel())
    return left, top, right, bottom


class Drawer:
    """Draws one identity as crops of a face geometry."""

    def __init__(self, face: FaceSpec, resolution: int, identity: int, seed: int) -> None:
        from training.dataset import BUNDLED_FACE
        from training.faces.identity import Identity
        from training.faces.light import Light

        who = Identity.sample(np.random.default_rng(identity))
        light = Light.sample(np.random.default_rng(seed))
        self._seed = seed
        own = (face.template, face.crop_width, face.crop_height)
        bundled = (BUNDLED_FACE.template, BUNDLED_FACE.crop_width, BUNDLED_FACE.crop_height)
        self._render = (
            _crop_renderer(who, light)
            if own == bundled and resolution == face.crop_width
            else _portrait_renderer(who, light, face, resolution)
        )

    def crops(self, mouth: F32, offset: int = 0) -> U8:
        """uint8 [frames, R, R, 3] with the mouths [frames, 7]; another offset, other poses."""
        poses = head_loop(len(mouth), self._seed + offset)
        return np.stack([self._render(row, pose) for row, pose in zip(mouth, poses, strict=True)])


def head_loop(frames: int, seed: int) -> list[Pose]:
    """Poses of a head that idles, whose end meets its start."""
    from training.faces.pose import Pose

    dice = np.random.default_rng((31, seed))
    phase = 2 * np.pi * np.arange(frames) / frames

    def walk(reach: float) -> list[float]:
        total = np.zeros(frames)
        for k in range(1, 6):
            total += np.cos(k * phase + dice.uniform(0, 2 * np.pi)) / k
        return [float(value) for value in reach * total / total.std()]

    turns = zip(walk(0.035), walk(0.02), strict=True)
    return [Pose(yaw=yaw, pitch=pitch - 0.012) for yaw, pitch in turns]


def _crop_renderer(who: Identity, light: Light) -> _Renderer:
    """The training corpus's own crops: drawn ten times as fast as whole pictures."""
    from training.faces.renderer import CropRenderer

    renderer = CropRenderer.build(who, light)
    return renderer.render


def _portrait_renderer(who: Identity, light: Light, face: FaceSpec, resolution: int) -> _Renderer:
    """Crops of whole pictures, for any other geometry."""
    from training.faces.portrait import Framing, PortraitRenderer

    renderer = PortraitRenderer.build(who, light, Framing())

    def render(row: F32, pose: Pose) -> U8:
        picture, points = renderer.render(row, pose)
        affine = square_affine(align_affine(points, face), face, resolution)
        size = (resolution, resolution)
        crop = cv2.warpAffine(picture, affine, size, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(crop, np.uint8)

    return render
