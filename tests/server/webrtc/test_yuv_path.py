"""From a decoded camera picture to the encoder a frame stays in YUV; only the mouth is touched."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from av import VideoFrame

from engine.media import FRAME_SAMPLES, U8, Picture
from engine.pipeline import SourceFrame
from engine.scheduler import Scheduler
from engine.stream import Stream, StreamOptions
from server.engine_link.frame_block import FrameBlock, picture_bytes
from server.media.av_frames import frame_from_picture, picture_from_frame
from tests.fakes import FakeBackend, FakeCamera, R, fake_affine, speech

WIDTH, HEIGHT, FRAMES = 320, 240, 12
LEFT, TOP = 30, 20  # where `fake_affine` puts the face's crop, of R x R pixels


class Followed(FakeCamera):
    """A camera whose pictures have one face that stays where it is."""

    def __init__(self) -> None:
        super().__init__(FRAMES, [True])
        self.pictures: list[Picture] = []

    def push(self, picture: Picture, pts_samples: int) -> None:
        self.pictures.append(picture)

    def take(self, frames: range) -> list[SourceFrame]:
        return [SourceFrame(self.pictures[frame], fake_affine()) for frame in frames]


def _planes(i420: U8) -> list[U8]:
    luma, chroma = i420[:HEIGHT], i420[HEIGHT:].reshape(2, HEIGHT // 2, WIDTH // 2)
    return [luma, chroma[0], chroma[1]]


def test_no_whole_picture_is_converted_and_no_byte_outside_of_the_face_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    converted: list[int] = []
    convert = cv2.cvtColor

    def counted(image: U8, *rest: Any) -> Any:
        converted.append(image.shape[0] * image.shape[1])
        return convert(image, *rest)

    monkeypatch.setattr(cv2, "cvtColor", counted)
    dice = np.random.default_rng(0)
    size = (HEIGHT * 3 // 2, WIDTH)
    taken = [dice.integers(40, 200, size, np.uint8) for _ in range(FRAMES)]
    block = FrameBlock.create(1, picture_bytes(WIDTH, HEIGHT))
    backend, camera = FakeBackend(), Followed()
    stream = Stream(backend, camera, StreamOptions(hop_frames=4, realtime=False))
    scheduler = Scheduler(backend)
    scheduler.add(stream)
    sent: list[tuple[float, U8]] = []
    try:
        for index, i420 in enumerate(taken):
            decoded = VideoFrame.from_ndarray(i420, format="yuv420p")
            block.write(0, picture_from_frame(decoded, (WIDTH, HEIGHT)))
            stream.push_video(block.read(0, WIDTH, HEIGHT), index * FRAME_SAMPLES)
        stream.push_audio(speech(FRAMES))
        stream.flush()
        while outputs := scheduler.run_due():
            for frame in (frame for output in outputs for frame in output.frames):
                block.write(0, frame.picture)
                released: Picture = block.read(0, WIDTH, HEIGHT)
                encoded = frame_from_picture(released, 0)
                assert encoded.format.name == "yuv420p"
                sent.append((frame.synced, np.asarray(encoded.to_ndarray(), np.uint8)))
    finally:
        block.close()
    assert len(sent) == FRAMES and sent[-1][0] == 1.0, "mouths were generated"
    changed = 0
    for source, (_, result) in zip(taken, sent, strict=True):
        for number, (before, after) in enumerate(
            zip(_planes(source), _planes(result), strict=True)
        ):
            part = 1 if number == 0 else 2  # chroma has half the rows and columns
            rows, columns = np.nonzero(before != after)
            changed += len(rows)
            assert ((rows >= TOP // part) & (rows < (TOP + R) // part)).all()
            assert ((columns >= LEFT // part) & (columns < (LEFT + R) // part)).all()
    assert changed > 0
    assert converted and max(converted) <= (R + 4) * (R + 4) * 3 // 2, "no more than the crop's box"
