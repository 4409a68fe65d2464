"""A server that keeps what it hands to its encoders, to hold what arrives beside it.

    python -m benchmarks.tapped_server FOLDER EVERY serve --port 8080

Otherwise it is `lipwire`. Of each call every so-many-th picture's brightness is appended to
`FOLDER/<first eight digits of the session>` as it leaves playout, before encoder and network.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from av import VideoFrame

from engine.media import FPS, U8
from server.cli import main
from server.media.av_frames import VIDEO_CLOCK_HZ
from server.media.session_media import SessionMedia
from server.media.tracks import PlayoutTrack, VideoOut

HEADER = np.dtype([("frame", "<i8"), ("height", "<i4"), ("width", "<i4")])


def tap(folder: Path, every: int) -> None:
    """Keeps every so-many-th picture from now on."""
    start, release = SessionMedia.start, VideoOut.release
    calls: dict[PlayoutTrack[VideoFrame], str] = {}

    def start_known(self: SessionMedia) -> None:
        calls[self.video_out] = self._stream.session[:8]
        start(self)

    def keep_and_release(self: PlayoutTrack[VideoFrame], frame: VideoFrame) -> None:
        number = (frame.pts or 0) // (VIDEO_CLOCK_HZ // FPS)
        if self in calls and number % every == 0:
            header = np.array((number, frame.height, frame.width), HEADER)
            luma = frame.to_ndarray(format="yuv420p")[: frame.height]
            with (folder / calls[self]).open("ab") as file:
                file.write(header.tobytes() + luma.tobytes())
        release(self, frame)

    SessionMedia.start = start_known  # type: ignore[method-assign]
    VideoOut.release = keep_and_release  # type: ignore[method-assign]


def read_tap(path: Path) -> Iterator[tuple[int, U8]]:
    """(number on media time, luma [h, w]) of each picture that was kept."""
    data, at = path.read_bytes(), 0
    while at < len(data):
        (header,) = np.frombuffer(data, HEADER, 1, at)
        at += HEADER.itemsize
        height, width = int(header["height"]), int(header["width"])
        luma = np.frombuffer(data, np.uint8, height * width, at).reshape(height, width)
        at += height * width
        yield int(header["frame"]), luma


if __name__ == "__main__":
    tap(Path(sys.argv[1]), int(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
