"""Crops and portraits show what they were asked to show, where they say they do."""

from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np
import pytest

from engine.face.align import align_affine
from engine.media import F32, U8
from engine.spec import FaceSpec
from training.faces.canvas import MIDLINE
from training.faces.eyes import Gaze
from training.faces.identity import Identity
from training.faces.light import Light
from training.faces.lips import mouth_shape
from training.faces.portrait import Framing, PortraitRenderer
from training.faces.pose import Pose, project
from training.faces.renderer import (
    CROP_PIXELS,
    CROP_UNITS,
    CROP_X0,
    CROP_Y0,
    TEMPLATE,
    CropRenderer,
    crop_affine,
)
from training.mouth import MOUTH_PARAMETERS, rest_mouth

REST = rest_mouth(1)[0]


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.sample(np.random.default_rng(3))


@pytest.fixture(scope="module")
def light() -> Light:
    return Light.sample(np.random.default_rng(3))


@pytest.fixture(scope="module")
def crops(identity: Identity, light: Light) -> CropRenderer:
    return CropRenderer.build(identity, light)


@pytest.fixture(scope="module")
def portraits(identity: Identity, light: Light) -> PortraitRenderer:
    return PortraitRenderer.build(identity, light, Framing())


def crop_face() -> FaceSpec:
    """The bundled model's crop."""
    scale = CROP_PIXELS / CROP_UNITS
    left, right, nose = (((x - CROP_X0) * scale, (y - CROP_Y0) * scale) for x, y in TEMPLATE)
    return FaceSpec(template=(left, right, nose), crop_width=CROP_PIXELS, crop_height=CROP_PIXELS)


def change(before: U8, after: U8) -> tuple[float, float]:
    """Mean absolute difference inside the mouth's part of the crop and outside of it."""
    difference = np.abs(before.astype(np.float32) - after.astype(np.float32)).mean(2)
    mouth = difference[30:100, 25:103].mean()
    outside = np.concatenate([difference[:18].ravel(), difference[118:].ravel()]).mean()
    return float(mouth), float(outside)


def test_a_crop_is_the_same_every_time(crops: CropRenderer) -> None:
    pose = Pose(0.05, -0.03)
    crop = crops.render(REST, pose)
    assert crop.shape == (CROP_PIXELS, CROP_PIXELS, 3) and crop.dtype == np.uint8
    np.testing.assert_array_equal(crop, crops.render(REST, pose))


@pytest.mark.parametrize("name", MOUTH_PARAMETERS)
def test_every_mouth_parameter_shows_in_the_mouth_alone(crops: CropRenderer, name: str) -> None:
    before = REST.copy()
    before[MOUTH_PARAMETERS.index("opening")] = 0.35
    after = before.copy()
    after[MOUTH_PARAMETERS.index(name)] = 1.0
    mouth, outside = change(crops.render(before, Pose()), crops.render(after, Pose()))
    assert mouth > 1.0
    assert outside < 0.35 * mouth


def test_motion_between_close_mouths_is_small(crops: CropRenderer) -> None:
    pictures = []
    for opening in np.linspace(0.0, 0.06, 7):
        row = REST.copy()
        row[0] = opening
        pictures.append(crops.render(row, Pose()))
    steps = [change(a, b)[0] for a, b in itertools.pairwise(pictures)]
    assert max(steps) < 4.0


@pytest.mark.parametrize("pose", [Pose(), Pose(0.2, 0.1), Pose(-0.15, -0.1, 0.1, 3.0, -2.0, 1.1)])
def test_alignment_takes_the_points_to_the_template(crops: CropRenderer, pose: Pose) -> None:
    to_plane = crop_affine(crops.anchors, pose)
    points = project(Pose(pose.yaw, pose.pitch), crops.anchors)
    units = cv2.transform(points[None], cv2.invertAffineTransform(to_plane))[0]
    target = np.asarray(TEMPLATE, np.float32)
    np.testing.assert_allclose(units.mean(0), target.mean(0), atol=0.01)
    assert np.ptp(units[:, 0]) == pytest.approx(41.0, abs=9.0)


@pytest.mark.parametrize(
    "pose", [Pose(0.2, 0.0), Pose(0.0, 0.15), Pose(-0.15, -0.1), Pose(0.52), Pose(-0.45, 0.3)]
)
def test_undoing_a_pose_finds_the_point_that_was_projected(crops: CropRenderer, pose: Pose) -> None:
    flat = np.asarray([[0, 66], [-14, 66], [14, 70], [0, 82], [-20, 50]], np.float32)
    z = crops.depth.at(flat[:, :1].copy(), flat[:, 1:].copy())
    seen = project(pose, np.concatenate([flat, z], axis=1))
    x, y = crops.depth.unpose(pose, seen[:, :1].copy(), seen[:, 1:].copy())
    np.testing.assert_allclose(np.concatenate([x, y], axis=1), flat, atol=0.5)


@pytest.mark.parametrize("yaw", [-0.52, 0.52])
def test_a_head_turned_by_thirty_degrees_is_not_torn(crops: CropRenderer, yaw: float) -> None:
    u, v = np.meshgrid(np.linspace(-45, 45, 181), np.linspace(44, 96, 53))
    x, _ = crops.depth.unpose(Pose(yaw), u.astype(np.float32), v.astype(np.float32))
    steps = np.diff(x, axis=1)
    assert steps.min() > -0.05
    assert steps.max() < 4.0


def test_glasses_show_at_the_top_of_a_crop_and_nowhere_else(light: Light) -> None:
    bare, worn = (
        CropRenderer.build(
            dataclasses.replace(Identity.sample(np.random.default_rng(3)), glasses=glasses), light
        ).render(REST, Pose())
        for glasses in (0.0, 1.0)
    )
    difference = np.abs(bare.astype(np.int16) - worn).max(axis=2)
    assert difference[:20].max() > 40
    assert difference[40:].max() == 0


def test_a_portrait_cropped_by_its_points_is_the_crop(
    crops: CropRenderer, portraits: PortraitRenderer
) -> None:
    row = REST.copy()
    row[:3] = 0.5, 0.3, 0.0
    pose = Pose(0.06, -0.03, 0.04, 2.0, -1.0, 1.02)
    picture, points = portraits.render(row, pose)
    assert picture.shape == (512, 512, 3) and picture.dtype == np.uint8
    affine = align_affine(points, crop_face())
    cut = cv2.warpAffine(picture, affine, (CROP_PIXELS, CROP_PIXELS), flags=cv2.INTER_AREA)
    expected = crops.render(row, pose)
    soft = [cv2.GaussianBlur(p, (0, 0), 2.0).astype(np.float32) for p in (cut, expected)]
    assert np.abs(soft[0] - soft[1])[20:100].mean() < 7.0


def test_a_blink_shuts_the_eyes_and_leaves_the_mouth(portraits: PortraitRenderer) -> None:
    opened, points = portraits.render(REST, Pose(), Gaze())
    shut, same = portraits.render(REST, Pose(), Gaze(blink=1.0))
    np.testing.assert_array_equal(points, same)
    difference = np.abs(opened.astype(np.int16) - shut).max(axis=2)
    nose_row = int(points[2, 1])
    assert difference[:nose_row].max() > 60
    assert difference[nose_row + 10 :].max() == 0


def rendered_point(picture: U8, point: F32) -> float:
    x, y = np.round(point).astype(int)
    return float(picture[y - 1 : y + 2, x - 1 : x + 2].mean())


def test_brows_are_where_the_points_say(portraits: PortraitRenderer) -> None:
    picture, points = portraits.render(REST, Pose(0.05, 0.02))
    for brow in points[:2]:
        below = brow + np.asarray([0.0, -16.0], np.float32)
        assert rendered_point(picture, brow) < rendered_point(picture, below)


def psnr(picture: U8, truth: U8) -> float:
    error = np.mean((picture.astype(np.float32) - truth) ** 2)
    return float(10 * np.log10(255.0**2 / error))


def mouth_row(**values: float) -> F32:
    track = rest_mouth(1)
    for name, value in values.items():
        track[0, MOUTH_PARAMETERS.index(name)] = value
    return np.asarray(track[0], np.float32)


def carried(picture: U8, flow: F32) -> U8:
    """`picture` looked up where `flow` [16, 16, 2] says, as a network's warp would."""
    cells = np.clip((np.arange(CROP_PIXELS, dtype=np.float32) - 3.5) / 8, 0, 15)
    column, row = np.meshgrid(cells, cells)
    fine = 8 * cv2.remap(flow, column, row, cv2.INTER_LINEAR)
    x, y = np.meshgrid(*[np.arange(CROP_PIXELS, dtype=np.float32)] * 2)
    moved = cv2.remap(
        picture, x + fine[..., 0], y + fine[..., 1], cv2.INTER_LINEAR, None, cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, np.uint8)


def skin_around_mouths(renderer: CropRenderer, rows: list[F32]) -> np.ndarray:
    """bool [128, 128]: what moves with a mouth and is no part of its lips, at pose zero."""
    shapes = [mouth_shape(renderer.identity, row) for row in rows]
    scale = CROP_PIXELS / CROP_UNITS
    x, y = np.meshgrid(*[np.arange(CROP_PIXELS) / scale] * 2)
    x, y = np.abs(x + CROP_X0 - MIDLINE), y + CROP_Y0 - renderer.identity.mouth_y
    half = max(shape.half for shape in shapes) + 2.5
    top = min(float(shape.contours[:, 0].min()) for shape in shapes) - 3.0
    bottom = max(float(shape.contours[:, 3].max()) for shape in shapes) + 4.0
    around = (x < 20.0) & (y > top - 3.0) & (y < renderer.identity.chin_y + 4.0)
    return np.asarray(around & ~((x < half) & (y > top) & (y < bottom)))


@pytest.mark.parametrize("pose", [Pose(), Pose(0.15, 0.08)])
@pytest.mark.parametrize(
    "said",
    [{"opening": 0.5}, {"opening": 0.3, "width": 1.0}, {"rounding": 1.0, "opening": 0.2}],
    ids=str,
)
def test_flow_carries_the_skin_of_one_mouth_to_that_of_another(
    crops: CropRenderer, pose: Pose, said: dict[str, float]
) -> None:
    jitter = Pose(0.0, 0.0, 0.01, 0.4, -0.5, 1.01)
    row = mouth_row(**said)
    wanted, source = (crops.render(one, pose, jitter) for one in (row, REST))
    moved = carried(source, crops.skin_flow(row, REST, pose, jitter))
    skin = skin_around_mouths(crops, [row, REST])
    assert psnr(moved[skin], wanted[skin]) > psnr(source[skin], wanted[skin]) + 8.0


def test_flow_is_nothing_between_a_mouth_and_itself(crops: CropRenderer) -> None:
    row = mouth_row(opening=0.6, width=0.4)
    assert np.abs(crops.skin_flow(row, row, Pose(0.1), None)).max() < 0.01
