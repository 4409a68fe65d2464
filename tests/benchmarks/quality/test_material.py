"""The takes that quality is measured on."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.material import (
    FACES,
    PATH,
    TAKE_FRAMES,
    Drawer,
    head_loop,
    lips_box,
    load_speeches,
    looped_mel,
    make_takes,
    shortened,
)
from benchmarks.quality.metrics import changes
from engine.audio.features import FeatureStream
from engine.checkpoints import resolve_model
from engine.face.align import latentsync_face
from engine.media import FRAME_SAMPLES
from engine.spec import FaceSpec, ModelSpec
from tests.toy_takes import toy_takes
from training.dataset import MOUTH_BOX
from training.speech.scores import rest_frames

BUNDLED = ModelSpec.read(resolve_model("bundled"))


def test_the_committed_speech_is_small_whole_and_ends_as_it_begins() -> None:
    assert PATH.stat().st_size < 2 << 20
    for speech in load_speeches():
        assert len(speech.samples) == TAKE_FRAMES * FRAME_SAMPLES
        assert speech.mouth.shape == (TAKE_FRAMES, 7)
        assert np.abs(speech.samples).max() <= 1.0 and np.abs(speech.samples).max() > 0.1
        assert not speech.mouth[[0, -1]].any()
        assert np.abs(speech.samples[:FRAME_SAMPLES]).max() < 1e-3
        assert rest_frames(speech.mouth).any(), "a pause is needed to see whether mouths rest"
    assert all(TAKE_FRAMES % hop for hop in (2, 4, 8, 16)), "borders must move between rounds"


def test_the_sound_goes_round_and_round() -> None:
    samples = load_speeches()[0].samples
    audio = BUNDLED.audio
    mel = looped_mel(samples, audio)
    stream = FeatureStream(audio)
    stream.push(np.tile(samples, 4))
    want = stream.windows(range(TAKE_FRAMES, 3 * TAKE_FRAMES))
    np.testing.assert_array_equal(mel, want[:TAKE_FRAMES])
    np.testing.assert_array_equal(mel, want[TAKE_FRAMES:])
    with pytest.raises(ValueError, match="whole frames"):
        looped_mel(samples[:-1], audio)


@pytest.mark.parametrize("face", [BUNDLED.face, latentsync_face(128)], ids=["crops", "portraits"])
def test_a_face_opens_its_mouth_and_nothing_above_it(face: FaceSpec) -> None:
    drawer = Drawer(face, 128, *FACES[0])
    mouth = np.zeros((2, 7), np.float32)
    closed = drawer.crops(mouth)
    mouth[:, 0] = 0.8
    opened = drawer.crops(mouth)
    off = np.abs(opened.astype(np.int16) - closed).mean(axis=(0, 3))
    left, top, right, bottom = lips_box(face, 128)
    assert off[: top // 2].mean() < 0.1
    assert off[top:bottom, left:right].mean() > max(5.0, 2 * off.mean())


def test_takes_hold_truth_source_and_the_other_takes_speech() -> None:
    first, second = make_takes(BUNDLED, frames=24, reader_frames=2)
    for take, other in ((first, second), (second, first)):
        assert take.source.shape == take.truth.shape == (24, 128, 128, 3)
        assert take.reader.shape[0] == len(take.reader_mouth) == 2
        np.testing.assert_array_equal(take.wrong_mel, other.mel)
        resting = ~take.speech.mouth.any(axis=1)
        np.testing.assert_array_equal(take.truth[resting], take.source[resting])
        speaking = take.speech.mouth[:, 0] > 0.2
        assert speaking.any() and (take.truth[speaking] != take.source[speaking]).any()
    assert not np.array_equal(first.source, second.source)


def test_the_head_ends_where_it_began() -> None:
    poses = head_loop(TAKE_FRAMES, 3)
    yaw = np.array([pose.yaw for pose in [*poses, *poses[:2]]])
    steps = np.abs(np.diff(yaw))
    assert steps[TAKE_FRAMES - 1] <= steps.max() and yaw.std() > 0.02


def test_the_lips_box_lies_where_training_weighs_the_mouth_and_moves_with_the_crop() -> None:
    box = np.array(lips_box(BUNDLED.face, BUNDLED.resolution)) / BUNDLED.resolution
    assert np.abs(box - np.array(MOUTH_BOX)).max() < 0.03
    small, large = (np.array(lips_box(latentsync_face(r), r)) / r for r in (256, 512))
    assert np.abs(small - large).max() < 0.01
    assert small[1] > 0.5, "the published crop has the lips in its lower half"


def test_a_shorter_take_keeps_its_first_frames_and_its_reader() -> None:
    take = toy_takes(60)[0]
    short = shortened(take, 21)
    assert short.frames == 21 and len(short.speech.samples) == 21 * FRAME_SAMPLES
    np.testing.assert_array_equal(short.truth, take.truth[:21])
    assert short.reader is take.reader
    assert changes(short.truth, (0, 0, 32, 32)).shape == (20,)
