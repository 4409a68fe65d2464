"""The corpus of crops keeps faces, mouths and speech together."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from training.faces.corpus import SpeechShelf, write_shard
from training.faces.tracks import alignment_jitter, babble_track, head_motion
from training.mouth import MOUTH_PARAMETERS


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    for split in ("train", "voices"):
        (folder / split).mkdir()
        mouth = rng.random((60, 7)).astype(np.float32)
        np.save(folder / split / "mouth.npy", mouth)
        clips = [{"start": 0, "frames": 5}, {"start": 5, "frames": 4}]
        (folder / split / "clips.json").write_text(json.dumps(clips), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def shard(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces")
    write_shard(folder, 3, 3, 5, SpeechShelf(speech))
    return folder


def test_a_shard_lists_every_frame_once(shard: Path) -> None:
    crops = np.load(shard / "crops_03.npy")
    mouth = np.load(shard / "mouth_03.npy")
    clips = json.loads((shard / "crops_03.json").read_text(encoding="utf-8"))
    assert crops.dtype == np.uint8 and crops.shape[1:] == (128, 128, 3)
    assert mouth.shape == (len(crops), len(MOUTH_PARAMETERS))
    assert [clip["first"] for clip in clips] == np.cumsum(
        [0, *(clip["frames"] for clip in clips)]
    ).tolist()[:-1]
    assert np.load(shard / "source_03.npy").shape == crops.shape
    flow = np.load(shard / "flow_03.npy")
    assert flow.dtype == np.float16 and flow.shape == (len(crops), 16, 16, 2)
    assert np.load(shard / "reference_03.npy").shape == (3, 128, 128, 3)


def test_mouths_are_those_of_the_speech_named(shard: Path, speech: Path) -> None:
    mouth = np.load(shard / "mouth_03.npy")
    for clip in json.loads((shard / "crops_03.json").read_text(encoding="utf-8")):
        split, index = clip["speech"].split("/")
        entry = json.loads((speech / split / "clips.json").read_text(encoding="utf-8"))[int(index)]
        start = entry["start"] + clip["start_frame"]
        said = np.load(speech / split / "mouth.npy")[start : start + clip["frames"]]
        np.testing.assert_array_equal(mouth[clip["first"] : clip["first"] + clip["frames"]], said)
        assert (clip["split"] == "train") == (split == "train")
        assert (clip["identity"] < 1_000_000) == (clip["split"] == "train")


def test_without_speech_mouths_babble() -> None:
    line = SpeechShelf(None).draw("train", np.random.default_rng(0))
    assert line.speech == "" and line.mouth.shape[1] == len(MOUTH_PARAMETERS)


def test_a_source_shows_the_face_of_its_clip_with_another_mouth(shard: Path) -> None:
    crops, source = np.load(shard / "crops_03.npy"), np.load(shard / "source_03.npy")
    difference = np.abs(crops.astype(np.int16) - source).mean(axis=(0, 3))
    assert difference[:20].mean() < 0.3 * difference[40:100, 30:98].mean()


def test_tracks_are_smooth_and_bounded() -> None:
    rng = np.random.default_rng(1)
    track = babble_track(400, rng)
    assert track.min() >= -1 and track.max() <= 1.0
    assert np.abs(np.diff(track, axis=0)).max() < 0.8
    turned = [[(pose.yaw, pose.pitch) for pose in head_motion(200, 1.0, rng)] for _ in range(40)]
    yaw, pitch = np.moveaxis(np.asarray(turned), 2, 0)
    assert np.abs(np.diff(yaw, axis=1)).max() < 0.03
    assert np.deg2rad(20) < np.abs(yaw).max() <= np.deg2rad(30) + 1e-6
    assert np.abs(pitch).max() <= np.deg2rad(20) + 1e-6
    scale = np.asarray([pose.scale for pose in alignment_jitter(200, 1.0, rng)])
    assert np.abs(scale - 1).max() < 0.05
