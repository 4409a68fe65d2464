"""Media time and the frames that pass through the engine.

Time is counted in samples of the 16 kHz speech: one video frame at 25 fps is
40 ms = 640 samples at 16 kHz = 1920 at 48 kHz = 3600 ticks at 90 kHz.
Frame i shows the sound of samples [640 i, 640 (i + 1)).

A picture is planar I420 (BT.601, limited range): one uint8 array of
[height * 3 / 2, width], as OpenCV and aiortc lay it out, so that a frame is
decoded, pasted into and encoded without a trip through RGB. Height and width
are even. Face crops, which the network reads, are RGB [R, R, 3].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.errors import VideoFormatError

FPS = 25
SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = SAMPLE_RATE_HZ // FPS  # 640
MEL_HOP_SAMPLES = 160  # one log-mel frame every 10 ms
MEL_WINDOW_SAMPLES = 400  # 25 ms, centred on the hop
STEP_SAMPLES = 320  # one audio encoder position: 20 ms, two log-mel frames

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Picture:
    """One I420 picture.

    Attributes:
        i420: uint8 [height * 3 // 2, width]: the Y plane, then U, then V.
    """

    i420: U8

    def __post_init__(self) -> None:
        array = self.i420
        if array.dtype != np.uint8 or array.ndim != 2:
            raise VideoFormatError(
                "expected an I420 picture as uint8 [height * 3 / 2, width], "
                f"got {array.dtype} {array.shape}"
            )
        rows, width = array.shape
        if rows % 3 or width % 2 or (rows // 3 * 2) % 2:
            raise VideoFormatError(
                f"expected even height and width in I420, got an array of {array.shape}"
            )

    @property
    def height(self) -> int:
        return int(self.i420.shape[0]) * 2 // 3

    @property
    def width(self) -> int:
        return int(self.i420.shape[1])

    @property
    def luma(self) -> U8:
        """[height, width] view of the Y plane: what face detection reads."""
        return self.i420[: self.height]


@dataclass(frozen=True, slots=True)
class RenderedFrame:
    """One frame that a stream gives back.

    Attributes:
        picture: the finished picture.
        index: frame index at 25 fps since the stream's start.
        start_sample: first 16 kHz sample that it shows, `index * 640`.
        generation: the generation of the speech that it shows.
        synced: share of generated mouth in the picture, 0.0 (the source frame) to 1.0.
    """

    picture: Picture
    index: int
    start_sample: int
    generation: int
    synced: float
