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

from engine.media import U8, Picture
from server.cli import main
from server.media_clock import FRAME_TICKS
from server.playout import PlayoutFrame
from server.session_media import SessionMedia

HEADER = np.dtype([("frame", "<i8"), ("height", "<i4"), ("width", "<i4")])


def tap(folder: Path, every: int) -> None:
    """Keeps every so-many-th picture from now on."""
    send = SessionMedia._send
    files: dict[SessionMedia, Path] = {}

    def keep_and_send(self: SessionMedia, frame: PlayoutFrame[Picture], now: int) -> None:
        number = frame.pts // FRAME_TICKS
        if number % every == 0:
            path = files.setdefault(self, folder / self._stream.session[:8])
            height, width = frame.picture.height, frame.picture.width
            header = np.array((number, height, width), HEADER)
            with path.open("ab") as file:
                file.write(header.tobytes() + frame.picture.i420[:height].tobytes())
        send(self, frame, now)

    SessionMedia._send = keep_and_send  # type: ignore[method-assign]


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
