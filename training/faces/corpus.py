"""Renders the training corpus of lower-face crops.

    python -m training.faces.corpus --speech DIR --out DIR --clips 600 --seed 1

DIR gets shards of 80 clips each, every clip one face that says one piece of speech:

    crops_XX.npy      uint8 [frames, 128, 128, 3], RGB, clip after clip
    mouth_XX.npy      float32 [frames, 7], the mouths as drawn, see `training.mouth`
    crops_XX.json     [{first, frames, identity, split, speech, start_frame}]
    source_XX.npy     uint8 [frames, 128, 128, 3]: the same frames with another mouth, at rest
                      or saying something else: what an idle clip or a camera shows there
    flow_XX.npy       float16 [frames, 16, 16, 2]: the skin's motion between the two, for each
                      cell of 8 x 8 pixels: the skin that `crops` shows at the cell's middle is
                      shown by `source` this many cells further, (dx, dy)
    reference_XX.npy  uint8 [clips, 128, 128, 3]: the same face at rest in another pose

`speech` names a clip of the speech corpus ("train/12": entry 12 of train/clips.json) and
`start_frame` is the frame of it that the clip's frame 0 shows; it is empty for a babbling
mouth without sound, which is what clips get when --speech is absent. Faces of the test
split appear nowhere else; they say held-out speech when there is any.
"""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.media import F32, U8
from training.faces.camera import Camera
from training.faces.expression import Expression
from training.faces.identity import Identity
from training.faces.light import Light
from training.faces.pose import Pose
from training.faces.renderer import CropRenderer
from training.faces.tracks import alignment_jitter, babble_track, head_motion
from training.mouth import rest_mouth

log = logging.getLogger(__name__)

Flow = NDArray[np.float16]

SHARD_CLIPS: Final = 80
CLIP_FRAMES: Final = (28, 44)
TEST_SHARE: Final = 0.1
REST_SHARE: Final = 0.6  # of the clips whose source shows a resting mouth
_TEST_IDENTITIES = 1_000_000  # identity numbers from here on are held out


@dataclass(frozen=True, slots=True)
class ClipEntry:
    """One clip of a shard, as it stands in `crops_XX.json`."""

    first: int
    frames: int
    identity: int
    split: Literal["train", "test"]
    speech: str
    start_frame: int


@dataclass(frozen=True, slots=True)
class Line:
    """A piece of speech for a face to say."""

    mouth: F32
    speech: str
    start_frame: int


class SpeechShelf:
    """Mouth tracks of a speech corpus, or babble when there is none."""

    def __init__(self, folder: Path | None) -> None:
        self._tracks: dict[str, list[tuple[str, F32]]] = {"train": [], "test": []}
        for path in sorted(folder.glob("*/clips.json")) if folder else []:
            mouth = np.load(path.with_name("mouth.npy"), mmap_mode="r")
            split = "train" if path.parent.name == "train" else "test"
            for index, clip in enumerate(json.loads(path.read_text(encoding="utf-8"))):
                track = mouth[clip["start"] : clip["start"] + clip["frames"]]
                self._tracks[split].append((f"{path.parent.name}/{index}", track))

    def draw(self, split: Literal["train", "test"], rng: np.random.Generator) -> Line:
        """A second and a half or so of a random clip of `split`."""
        frames = int(rng.integers(*CLIP_FRAMES))
        tracks = self._tracks[split]
        if not tracks:
            return Line(babble_track(frames, rng), "", 0)
        name, track = tracks[int(rng.integers(len(tracks)))]
        frames = min(frames, len(track))
        start = int(rng.integers(len(track) - frames + 1)) if rng.random() > 0.3 else 0
        return Line(np.array(track[start : start + frames], np.float32), name, start)


def other_mouths(mouth: F32, rng: np.random.Generator) -> F32:
    """The mouths that the source of a clip shows: at rest, or the clip's own at other times."""
    if rng.random() < REST_SHARE:
        return rest_mouth(len(mouth))
    return np.roll(mouth, max(8, int(rng.integers(len(mouth))) - 8), axis=0)


@dataclass(frozen=True, slots=True)
class Pictures:
    """The frames of one clip, or of all clips of a shard.

    Attributes:
        crops: uint8 [frames, 128, 128, 3] as said.
        source: the same frames with another mouth.
        flow: float16 [frames, 16, 16, 2], see `CropRenderer.skin_flow`.
        mouth: float32 [frames, 7] of `crops`.
    """

    crops: U8
    source: U8
    flow: Flow
    mouth: F32

    def save(self, folder: Path, number: str, entries: list[ClipEntry]) -> None:
        """Write a shard's files, the listing last: a reader finds a shard by it."""
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"crops_{number}.npy", self.crops)
        np.save(folder / f"source_{number}.npy", self.source)
        np.save(folder / f"flow_{number}.npy", self.flow)
        np.save(folder / f"mouth_{number}.npy", self.mouth)
        listing = json.dumps([asdict(entry) for entry in entries])
        (folder / f"crops_{number}.json").write_text(listing, encoding="utf-8")


def joined(clips: list[Pictures]) -> Pictures:
    """All `clips`, one after the other."""
    return Pictures(
        np.concatenate([clip.crops for clip in clips]),
        np.concatenate([clip.source for clip in clips]),
        np.concatenate([clip.flow for clip in clips]),
        np.concatenate([clip.mouth for clip in clips]),
    )


def render_pictures(
    renderer: CropRenderer,
    mouth: F32,
    poses: list[Pose],
    jitter: list[Pose],
    camera: Camera,
    rng: np.random.Generator,
) -> Pictures:
    """A clip that says `mouth` and its source, seen by one camera."""
    shown = other_mouths(mouth, rng)
    motion = list(zip(poses, jitter, strict=True))
    grain = camera.grains(len(mouth), rng)
    crops, source = (
        np.stack(
            [
                camera.take(renderer.render(row, *place), one)
                for row, place, one in zip(rows, motion, grain, strict=True)
            ]
        )
        for rows in (mouth, shown)
    )
    flow = np.stack(
        [
            renderer.skin_flow(said, other, *place)
            for said, other, place in zip(mouth, shown, motion, strict=True)
        ]
    )
    return Pictures(crops, source, flow.astype(np.float16), mouth)


def render_clip(
    identity: Identity, light: Light, line: Line, rng: np.random.Generator
) -> tuple[Pictures, U8]:
    """One clip, and a reference crop uint8 [128, 128, 3] in another pose."""
    renderer = CropRenderer.build(identity, light)
    frames = len(line.mouth)
    poses = head_motion(frames, float(rng.uniform(0.2, 1.2)), rng)
    jitter = alignment_jitter(frames, float(rng.uniform(0.3, 1.2)), rng)
    camera = Camera.sample(rng)
    pictures = render_pictures(renderer, line.mouth, poses, jitter, camera, rng)
    other = head_motion(1, 1.0, rng)[0]
    at_rest = renderer.render(rest_mouth(1)[0], other, alignment_jitter(1, 1.0, rng)[0])
    return pictures, camera.take(at_rest, camera.grains(1, rng)[0])


def write_shard(folder: Path, index: int, clips: int, seed: int, shelf: SpeechShelf) -> int:
    """Render shard `index`; the number of frames it holds."""
    rng = np.random.default_rng((seed, index))
    entries: list[ClipEntry] = []
    rendered: list[Pictures] = []
    references: list[U8] = []
    first = 0
    for _ in range(clips):
        split: Literal["train", "test"] = "test" if rng.random() < TEST_SHARE else "train"
        number = int(rng.integers(_TEST_IDENTITIES))
        number += _TEST_IDENTITIES if split == "test" else 0
        identity = Identity.sample(np.random.default_rng(number))
        identity, light = Expression.sample(rng).worn_by(identity), Light.sample(rng)
        line = shelf.draw(split, rng)
        pictures, reference = render_clip(identity, light, line, rng)
        frames = len(pictures.crops)
        entries.append(ClipEntry(first, frames, number, split, line.speech, line.start_frame))
        rendered.append(pictures)
        references.append(reference)
        first += frames
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"reference_{index:02d}.npy", np.stack(references))
    joined(rendered).save(folder, f"{index:02d}", entries)
    return first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--speech", type=Path, default=None, help="folder of training.speech")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first-shard", type=int, default=0, help="number of the first shard")
    parser.add_argument("--shard-step", type=int, default=1, help="for several processes")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cv2.setNumThreads(1)
    shelf = SpeechShelf(arguments.speech)
    left, index = arguments.clips, arguments.first_shard
    while left > 0:
        clips = min(SHARD_CLIPS, left)
        frames = write_shard(arguments.out, index, clips, arguments.seed, shelf)
        log.info("shard %d: %d clips, %d frames", index, clips, frames)
        left -= clips
        index += arguments.shard_step


if __name__ == "__main__":
    main()
