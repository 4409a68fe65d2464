"""InsightFace's detector and its 106 landmarks: what LatentSync was trained with.

Facts of the two models (deepinsight/insightface, python-package/insightface: `scrfd.py` and
`retinaface.py` in model_zoo for detection, `landmark.py` there and `utils/face_align.py` for
landmarks, `app/face_analysis.py` for their order; LatentSync's `utils/face_detector.py` for
the size of 512):

- SCRFD-10G, `det_10g.onnx`: RGB, (value - 127.5) / 128, the picture shrunk into the top left
  corner of a black square. Nine outputs: scores, boxes and five points, each at strides 8, 16
  and 32, two anchors a place, centred on (column, row) * stride. A box is the distances to its
  left, top, right and bottom, a point an offset, both in strides. Non-maximum suppression at an
  overlap of 0.4, scores from 0.5.
- `2d106det.onnx`: RGB 0..255, normalised inside the network, 192 x 192, around the box's centre,
  its longer side times 1.5; places come out as -1..1 of the crop. (InsightFace reads off a
  graph's nodes whether it normalises inside; of this file its log says mean 0.0, deviation 1.0.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.errors import ModelError
from engine.face.align import points_of_landmarks
from engine.face.detect import DetectedFace, FaceBox
from engine.media import F32, U8, Picture

SEARCH_SIZE: Final = 320  # of a full search; LatentSync's own 512 costs 2.6 times as much
NEAR_SIZE: Final = 160
_NEAR_SIDES: Final = 2.0  # sides of the face that a search near it covers
_STRIDES: Final = (8, 16, 32)
_ANCHORS: Final = 2
_SCORE: Final = 0.5
_OVERLAP: Final = 0.4
_LANDMARK_SIZE: Final = 192
_LANDMARK_REACH: Final = 1.5
_LANDMARKS: Final = 106

# A face's box is taller than wide; tracking works on squares as the cascade draws them, whose
# side is 89 units of the face template where the brows are 37.2 apart.
_BOX_BROWS: Final = 89.0 / 37.2
_BOX_ABOVE: Final = (0.385 * 89.0 - 12.0) / 89.0  # the brows' height in it

# The nose's tip stands out of the plane of the eyes by this many distances between them.
_NOSE_DEPTH: Final = 0.44

# SCRFD-10G is 10 GFLOPs at 640 x 480: some seven times the cascade's work a pixel.
_PIXEL_COST: Final = 7


@dataclass(frozen=True, slots=True)
class ScoredFace:
    """What the detector says of a face.

    Attributes:
        box: float32 [4] left, top, right, bottom.
        five: float32 [5, 2] eyes, nose, corners of the mouth; left = smaller x.
    """

    score: float
    box: F32
    five: F32


class InsightFaceDetector:
    """SCRFD and the 106 landmarks through onnxruntime, one thread.

    Args:
        detection, landmarks: the two ONNX files.

    Raises:
        ModelError: a file cannot be read, or takes or gives something else.
    """

    parts = 1

    def __init__(self, detection: Path, landmarks: Path) -> None:
        self._detection = _open(detection)
        self._landmarks = _open(landmarks)
        outputs = len(self._detection.get_outputs())
        if outputs != 3 * len(_STRIDES):
            raise ModelError(
                f"{detection}: expected scores, boxes and points at {len(_STRIDES)} strides, "
                f"got {outputs} outputs"
            )

    def search(self, picture: Picture, part: int) -> list[DetectedFace]:
        whole = (0, 0, picture.width, picture.height)
        return self._faces(picture, whole, SEARCH_SIZE, lambda face: -face.box.size)

    def search_near(self, picture: Picture, near: FaceBox) -> list[DetectedFace]:
        (x, y), reach = near.centre, _NEAR_SIDES / 2 * near.size
        left, top = max(int(x - reach), 0) // 2 * 2, max(int(y - reach), 0) // 2 * 2
        right, bottom = min(int(x + reach), picture.width), min(int(y + reach), picture.height)
        if min(right - left, bottom - top) < 0.8 * near.size:
            return []
        place = (left, top, right // 2 * 2, bottom // 2 * 2)
        return self._faces(picture, place, NEAR_SIZE, lambda face: near.distance(face.box))

    def cost(self, picture: Picture, part: int | None) -> int:
        size = NEAR_SIZE if part is None else SEARCH_SIZE
        return _PIXEL_COST * (size * size + _LANDMARK_SIZE * _LANDMARK_SIZE // 4)

    def _faces(
        self,
        picture: Picture,
        place: tuple[int, int, int, int],
        size: int,
        order: Callable[[DetectedFace], float],
    ) -> list[DetectedFace]:
        left, top, right, bottom = place
        rgb = _rgb(picture, place)
        scale = size / max(right - left, bottom - top)
        width, height = int((right - left) * scale), int((bottom - top) * scale)
        square = np.zeros((size, size, 3), np.uint8)
        square[:height, :width] = cv2.resize(rgb, (width, height))
        blob = ((square.astype(np.float32) - 127.5) / 128.0).transpose(2, 0, 1)[None]
        outputs = _run(self._detection, blob)
        faces = []
        for found in suppress(decode(outputs, size)):
            box, five = found.box / scale, found.five / scale
            landmarks = self._landmarks_of(rgb, box)
            shift = np.array([left, top], np.float32)
            faces.append(_detected(landmarks + shift, five + shift))
        return sorted(faces, key=order)

    def _landmarks_of(self, rgb: U8, box: F32) -> F32:
        """[106, 2] in pixels of `rgb`."""
        centre = (box[:2] + box[2:]) / 2
        half = _LANDMARK_SIZE / 2
        scale = _LANDMARK_SIZE / (_LANDMARK_REACH * float((box[2:] - box[:2]).max()))
        shift = half - scale * centre
        affine = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]], np.float32)
        crop = cv2.warpAffine(rgb, affine, (_LANDMARK_SIZE, _LANDMARK_SIZE))
        blob = crop.astype(np.float32).transpose(2, 0, 1)[None]
        places = _run(self._landmarks, blob)[0].reshape(-1, 2)[-_LANDMARKS:]
        if places.shape[0] != _LANDMARKS:
            raise ModelError(f"expected {_LANDMARKS} landmarks, got {places.shape[0]}")
        return np.asarray(((places + 1.0) * half - shift) / scale, np.float32)


def decode(outputs: Sequence[F32], size: int) -> list[ScoredFace]:
    """The faces that SCRFD's nine outputs tell of, in pixels of its square input."""
    faces = []
    for level, stride in enumerate(_STRIDES):
        scores = outputs[level].reshape(-1)
        boxes = outputs[level + 3].reshape(-1, 4) * stride
        points = outputs[level + 6].reshape(-1, 5, 2) * stride
        side = size // stride
        if not len(scores) == len(boxes) == len(points) == _ANCHORS * side * side:
            raise ModelError(
                f"expected {_ANCHORS * side * side} anchors at stride {stride}, got {len(scores)}"
            )
        for index in np.flatnonzero(scores >= _SCORE):
            row, column = divmod(int(index) // _ANCHORS, side)
            centre = np.array([column * stride, row * stride], np.float32)
            box = np.concatenate([centre - boxes[index, :2], centre + boxes[index, 2:]])
            if (box[2:] - box[:2]).min() < 1.0:
                continue
            faces.append(ScoredFace(float(scores[index]), box, points[index] + centre))
    return faces


def suppress(faces: Sequence[ScoredFace]) -> list[ScoredFace]:
    """The best of each group of overlapping faces."""
    kept: list[ScoredFace] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if all(_overlap(face.box, other.box) <= _OVERLAP for other in kept):
            kept.append(face)
    return kept


def yaw_of(five: F32) -> float:
    """Radians that a head is turned to the picture's right, by its nose between its eyes."""
    eyes = five[1] - five[0]
    length = float(np.hypot(*eyes))
    if length < 1e-3:
        return float(np.pi / 2)
    nose = five[2] - (five[0] + five[1]) / 2
    return float(np.arctan((nose @ eyes) / length**2 / _NOSE_DEPTH))


def _detected(landmarks: F32, five: F32) -> DetectedFace:
    points = points_of_landmarks(landmarks)
    middle = points[:2].mean(axis=0)
    # A turned head's brows come together; its height, brows to nose, stays.
    across = float(np.hypot(*(points[1] - points[0])))
    down = float(np.hypot(*(points[2] - middle)))
    side = _BOX_BROWS * max(across, 1.5 * down, 1.0)
    box = FaceBox(float(middle[0]) - side / 2, float(middle[1]) - _BOX_ABOVE * side, side)
    return DetectedFace(box, points, True, yaw_of(five))


def _overlap(one: F32, other: F32) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    # InsightFace counts pixels: a box that ends where it begins has an area of 1.
    shared = float(np.prod(np.maximum(high - low + 1.0, 0.0)))
    areas = [float(np.prod(box[2:] - box[:2] + 1.0)) for box in (one, other)]
    return shared / (sum(areas) - shared)


def _rgb(picture: Picture, place: tuple[int, int, int, int]) -> U8:
    """uint8 RGB of a part of the picture with even edges."""
    left, top, right, bottom = place
    height, width = picture.height, picture.width
    luma = picture.luma[top:bottom, left:right]
    chroma = picture.i420[height:].reshape(2, height // 2, width // 2)
    part = chroma[:, top // 2 : bottom // 2, left // 2 : right // 2]
    rows = np.concatenate([luma.reshape(-1), part.reshape(-1)])
    i420 = rows.reshape((bottom - top) * 3 // 2, right - left)
    return np.asarray(cv2.cvtColor(i420, cv2.COLOR_YUV2RGB_I420), np.uint8)


def _open(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # its errors share no narrower base
        raise ModelError(f"{path}: expected an ONNX model, {error}") from error


def _run(session: onnxruntime.InferenceSession, blob: NDArray[np.float32]) -> list[F32]:
    name = session.get_inputs()[0].name
    blob = np.ascontiguousarray(blob, np.float32)
    return [np.asarray(output, np.float32) for output in session.run(None, {name: blob})]
