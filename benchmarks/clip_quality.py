"""How the quality of prepared clips falls when good faces are spoilt.

    python -m benchmarks.clip_quality > benchmarks/results/clip_quality.json

Faces of drawn people and one photograph (Grace Hopper, part of matplotlib) are blurred,
compressed, shrunk, darkened and made noisy; the score is that of `training.prepare.quality`.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
import cv2
import numpy as np
from matplotlib import cbook

from benchmarks.gate_scenes import people, talking_heads
from engine.face.align import latentsync_face
from engine.media import F32, U8, Picture
from training.prepare.align import ClipAligner, face_luma
from training.prepare.quality import MIN_QUALITY, measure

RESOLUTION: Final = 256
PEOPLE: Final = 6
_FRAMES: Final = 10  # of the video that H.264 compresses

# Read off the photograph by eye: left brow, right brow, nose.
_HOPPER: Final = ((221, 166), (305, 164), (264, 216))

Spoil = Callable[[U8, float], U8]


@dataclass(frozen=True, slots=True)
class Subject:
    """A good picture of a face."""

    name: str
    rgb: U8
    points: F32


def subjects() -> list[Subject]:
    """The photograph and drawn people."""
    path = str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    photograph = np.asarray(cv2.imread(path), np.uint8)[..., ::-1].copy()
    found = [Subject("photograph", photograph, np.array(_HOPPER, np.float32))]
    for person in people(PEOPLE):
        head = talking_heads(person, 1, 3)[0]
        found.append(Subject(person.name, head.picture, head.points))
    return found


def score(rgb: U8, points: F32) -> float:
    """The quality of a clip that shows this picture."""
    height, width = (side // 2 * 2 for side in rgb.shape[:2])
    even = np.ascontiguousarray(rgb[:height, :width])
    picture = Picture(np.asarray(cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420), np.uint8))
    face = latentsync_face(RESOLUTION)
    crop = ClipAligner(face, RESOLUTION).crop(picture, points)
    return measure(crop, face_luma(picture, points, face)).score


def blurred(rgb: U8, sigma: float) -> U8:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), sigma), np.uint8)


def jpeg(rgb: U8, quality: float) -> U8:
    bgr = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), np.uint8)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    shown = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(cv2.cvtColor(shown, cv2.COLOR_BGR2RGB), np.uint8)


def h264(rgb: U8, crf: float) -> U8:
    """The last of some pictures that slide under x264, seen from the first one's place."""
    height, width = (side // 2 * 2 for side in rgb.shape[:2])
    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(int(crf)), "threads": "1"}
        for index in range(_FRAMES):
            moved = np.ascontiguousarray(np.roll(rgb, index, axis=1)[:height, :width])
            frame = av.VideoFrame.from_ndarray(moved, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data.seek(0)
    with av.open(data, "r") as container:
        last = list(container.decode(video=0))[-1].to_ndarray(format="rgb24")
    return np.asarray(np.roll(last, 1 - _FRAMES, axis=1), np.uint8)


def noisy(rgb: U8, deviation: float) -> U8:
    noise = np.random.default_rng(0).normal(0, deviation, rgb.shape)
    return np.asarray(np.clip(rgb + noise, 0, 255), np.uint8)


def lit(rgb: U8, gain: float) -> U8:
    return np.asarray(np.clip(rgb * gain, 0, 255), np.uint8)


SPOILS: Final[dict[str, tuple[Spoil, Sequence[float]]]] = {
    "blur, sigma in pixels": (blurred, (1, 2, 3)),
    "JPEG quality": (jpeg, (90, 50, 25, 12)),
    "H.264 crf": (h264, (18, 28, 36, 42, 48)),
    "noise, levels": (noisy, (5, 15, 30)),
    "gain": (lit, (1.6, 0.5, 0.25, 0.12)),
}
SCALES: Final = (0.75, 0.5, 0.35, 0.25)


def measured() -> dict[str, dict[str, list[float]]]:
    """Scores of every subject by what was done to it."""
    found = subjects()
    result = {"as it is": {"": [score(one.rgb, one.points) for one in found]}}
    for name, (spoil, amounts) in SPOILS.items():
        result[name] = {
            f"{amount:g}": [score(spoil(one.rgb, amount), one.points) for one in found]
            for amount in amounts
        }
    result["scale"] = {
        f"{scale:g}": [
            score(
                np.asarray(
                    cv2.resize(one.rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA),
                    np.uint8,
                ),
                np.asarray(one.points * scale, np.float32),
            )
            for one in found
        ]
        for scale in SCALES
    }
    return result


def main() -> int:
    """Prints the scores as JSON; the exit status."""
    cv2.setNumThreads(1)
    scores = {
        name: {amount: [round(value, 1) for value in values] for amount, values in row.items()}
        for name, row in measured().items()
    }
    names = [one.name for one in subjects()]
    report = {"subjects": names, "min_quality": MIN_QUALITY, "scores": scores}
    print(json.dumps(report, indent=1))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
