"""InsightFace's two models are fed, read and mapped back as their own package does.

Their weights are not here: small graphs stand in for them, which answer with planted numbers,
or with what they saw, so that pre- and post-processing are held to facts.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engine.errors import ModelError
from engine.face.align import LANDMARKS_106
from engine.face.detect import (
    FaceBox,
    has_insightface,
    open_detector,
)
from engine.face.insightface import (
    NEAR_SIZE,
    SEARCH_SIZE,
    InsightFaceDetector,
    ScoredFace,
    decode,
    suppress,
    yaw_of,
)
from engine.media import F32, Picture
from engine.published import FACE_DETECTOR_FILE, FACE_LANDMARKS_FILE

_FIVE = np.array([[-18, -4], [18, -4], [0, 18], [-14, 34], [14, 34]], np.float32)


def _save(path: Path, nodes: list[onnx.NodeProto], outputs: list[str], **tensors: F32) -> None:
    graph = helper.make_graph(
        nodes,
        "planted",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(path))


def _constant(path: Path, values: list[F32]) -> None:
    """A graph that answers with `values` whatever it sees."""
    names = [f"out{index}" for index in range(len(values))]
    nodes = [
        node
        for index, name in enumerate(names)
        for node in (
            helper.make_node("ReduceMean", ["input"], [f"m{index}"], keepdims=0),
            helper.make_node("Mul", [f"m{index}", "zero"], [f"z{index}"]),
            helper.make_node("Add", [f"z{index}", f"v{index}"], [name]),
        )
    ]
    planted = {f"v{index}": value for index, value in enumerate(values)}
    _save(path, nodes, names, zero=np.zeros(1, np.float32), **planted)


def _planted(size: int, faces: list[tuple[float, float, float, float]]) -> list[F32]:
    """SCRFD's outputs for faces of (score, x, y, half a side) in pixels of its input."""
    outputs: list[F32] = []
    for width in (1, 4, 10):
        outputs += [
            np.zeros((2 * (size // stride) ** 2, width), np.float32) for stride in (8, 16, 32)
        ]
    for score, x, y, half in faces:
        level = 0 if half < 24 else 1 if half < 60 else 2
        stride = (8, 16, 32)[level]
        column, row = round(x / stride), round(y / stride)
        anchor = 2 * (row * (size // stride) + column) + 1
        centre = np.array([column * stride, row * stride])
        outputs[level][anchor] = score
        low, high = np.array([x - half, y - half]), np.array([x + half, y + half])
        outputs[level + 3][anchor] = np.concatenate([centre - low, high - centre]) / stride
        five = np.array([x, y]) + _FIVE * half / 45.0
        outputs[level + 6][anchor] = ((five - centre) / stride).reshape(-1)
    return outputs


def _landmarks() -> F32:
    """[1, 212] a face in the middle of the crop: brows at -0.2, nose below."""
    places = np.zeros((106, 2), np.float32)
    for group, place in zip(LANDMARKS_106, [(-0.2, -0.15), (0.2, -0.15), (0.0, 0.1)], strict=True):
        places[list(group)] = place
    return places.reshape(1, -1)


def _folder(tmp_path: Path, size: int, faces: list[tuple[float, float, float, float]]) -> Path:
    _constant(tmp_path / FACE_DETECTOR_FILE, _planted(size, faces))
    _constant(tmp_path / FACE_LANDMARKS_FILE, [_landmarks()])
    return tmp_path


def _detector(folder: Path) -> InsightFaceDetector:
    return InsightFaceDetector(folder / FACE_DETECTOR_FILE, folder / FACE_LANDMARKS_FILE)


def _picture(width: int = 640, height: int = 480) -> Picture:
    return Picture(np.full((height * 3 // 2, width), 128, np.uint8))


def test_a_planted_face_comes_back_in_pixels_of_the_picture(tmp_path: Path) -> None:
    detector = _detector(_folder(tmp_path, SEARCH_SIZE, [(0.9, 150.0, 110.0, 40.0)]))
    (face,) = detector.search(_picture(), 0)
    # The search halves 640 to 320. The landmarks' crop spans 1.5 sides of the box: at 0.2 of
    # its half side a brow is 0.2 * 0.75 * 160 = 24 pixels from the centre.
    expected = [[300 - 24, 220 - 18], [300 + 24, 220 - 18], [300, 220 + 12]]
    assert np.abs(face.points - expected).max() <= 0.5 + 1e-3
    assert face.sure
    assert face.yaw == pytest.approx(0.0, abs=1e-6)
    assert face.box.left < 276 < 324 < face.box.left + face.box.size


def test_the_largest_face_comes_first_and_small_ones_on_finer_strides(tmp_path: Path) -> None:
    planted = [(0.95, 60.0, 60.0, 16.0), (0.7, 200.0, 120.0, 80.0)]
    faces = _detector(_folder(tmp_path, SEARCH_SIZE, planted)).search(_picture(), 0)
    assert [round(face.points[2, 0] / 2) for face in faces] == [200, 60]


def test_a_search_near_a_face_looks_around_it_and_sorts_by_distance(tmp_path: Path) -> None:
    planted = [(0.9, 40.0, 80.0, 30.0), (0.8, 80.0, 80.0, 30.0)]
    detector = _detector(_folder(tmp_path, NEAR_SIZE, planted))
    near = FaceBox(220.0, 140.0, 160.0)
    faces = detector.search_near(_picture(), near)
    # A window of two sides, 320 pixels from (140, 60), is halved.
    assert [round(float(face.points[2, 0])) for face in faces] == [300, 220]
    assert detector.search_near(_picture(), FaceBox(-300.0, 0.0, 200.0)) == []


def test_overlapping_boxes_leave_the_best_one() -> None:
    def face(score: float, left: float) -> ScoredFace:
        box = np.array([left, 0, left + 99, 99], np.float32)
        return ScoredFace(score, box, _FIVE)

    kept = suppress([face(0.6, 0), face(0.9, 20), face(0.7, 300), face(0.55, 63)])
    # 80 of 120 columns in common are 0.67; 57 of 143 are 0.399.
    assert [item.score for item in kept] == [0.9, 0.7, 0.55]


def test_scores_below_a_half_are_no_faces() -> None:
    assert decode(_planted(320, [(0.49, 100.0, 100.0, 30.0)]), 320) == []
    assert len(decode(_planted(320, [(0.5, 100.0, 100.0, 30.0)]), 320)) == 1


def test_the_detector_sees_rgb_around_zero_in_the_top_left_corner(tmp_path: Path) -> None:
    """A graph whose one face scores by how near the mean of red comes to what it must be."""
    outputs = _planted(SEARCH_SIZE, [(1.0, 150.0, 110.0, 16.0)])
    names = [f"out{index}" for index in range(9)]
    nodes = [
        helper.make_node("Slice", ["input", "at0", "at1", "axis"], ["red"]),
        helper.make_node("ReduceMean", ["red"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "expected"], ["off"]),
        helper.make_node("Abs", ["off"], ["distance"]),
        helper.make_node("Sub", ["one", "distance"], ["score"]),
        *[helper.make_node("Identity", [f"v{index}"], [f"i{index}"]) for index in range(9)],
        helper.make_node("Mul", ["i0", "score"], ["out0"]),
        *[helper.make_node("Identity", [f"i{index}"], [f"out{index}"]) for index in range(1, 9)],
    ]
    # Full red is 1 after (255 - 127.5) / 128 = 0.996; a quarter of the square stays black: -0.996.
    expected = 0.75 * 127.5 / 128.0 - 0.25 * 127.5 / 128.0
    one = np.ones((), np.float32)
    _save(
        tmp_path / FACE_DETECTOR_FILE,
        nodes,
        names,
        at0=np.array([0], np.int64),
        at1=np.array([1], np.int64),
        axis=np.array([1], np.int64),
        expected=np.float32(expected) * one,
        one=one * np.float32(0.51),
        **{f"v{index}": value for index, value in enumerate(outputs)},
    )
    _constant(tmp_path / FACE_LANDMARKS_FILE, [_landmarks()])
    red = np.zeros((480, 640, 3), np.uint8)
    red[..., 0] = 255
    blue = np.ascontiguousarray(red[..., ::-1])
    detector = _detector(tmp_path)
    answers = []
    for rgb in (red, blue):
        i420 = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420), np.uint8)
        answers.append(len(detector.search(Picture(i420), 0)) > 0)
    assert answers == [True, False]


@pytest.mark.parametrize("degrees", [-50, -20, 0, 35, 60])
def test_the_nose_between_the_eyes_tells_the_turn(degrees: int) -> None:
    angle = np.radians(degrees)
    eyes, depth = 36.0, 0.44 * 36.0
    five = np.array(
        [
            [-eyes / 2 * np.cos(angle), 0],
            [eyes / 2 * np.cos(angle), 0],
            [depth * np.sin(angle), 20],
            [0, 40],
            [0, 40],
        ],
        np.float32,
    )
    assert np.degrees(yaw_of(five)) == pytest.approx(degrees, abs=0.5)


def test_a_folder_with_both_files_opens_insightface_and_one_with_half_of_them_does_not(
    tmp_path: Path,
) -> None:
    folder = _folder(tmp_path, SEARCH_SIZE, [])
    assert isinstance(open_detector(folder), InsightFaceDetector)
    (folder / FACE_LANDMARKS_FILE).unlink()
    assert not has_insightface(folder)
    assert not isinstance(open_detector(folder), InsightFaceDetector)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path, SEARCH_SIZE, [])
    _constant(folder / FACE_DETECTOR_FILE, [np.zeros((1, 1), np.float32)])
    with pytest.raises(ModelError, match="strides, got 1 outputs"):
        _detector(folder)
    (folder / FACE_DETECTOR_FILE).write_bytes(b"no model")
    with pytest.raises(ModelError, match="expected an ONNX model"):
        open_detector(folder)


def test_a_search_near_costs_a_fraction_of_a_full_one(tmp_path: Path) -> None:
    detector = _detector(_folder(tmp_path, SEARCH_SIZE, []))
    assert detector.cost(_picture(), None) < 0.4 * detector.cost(_picture(), 0)
