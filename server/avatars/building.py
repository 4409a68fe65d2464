"""An avatar from a stranger's file: the process that decodes it, within limits set first.

    python -m server.avatars.building SOURCE FOLDER NAME LIMITS

The format is told by the file's first bytes, its name counts for nothing, and
ffmpeg reads it as that format only: a playlist that names other files is
refused before ffmpeg sees it. Each line on standard output is JSON:
`{"percent": 40}`, then `{"done": true}` or `{"error": "..."}`.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from engine.avatar import load_avatar
from engine.errors import AvatarError, LipwireError, MediaError
from engine.face.detect import open_detector
from engine.face.track import FaceTracker
from engine.media import F32, FPS, Picture
from server.media.media_files import VideoFile

STILL_FRAMES = 50  # of a clip made from a photograph
FACELESS_SHARE = 0.1  # of a clip's frames may show no face: their points lie between the others'
FIRST_LOOKS = 60  # at the first picture, until its face is found
MIN_SIDE = 64
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL = "the server's disk is full"
IMAGES = ("jpeg", "png", "webp")


@dataclass(frozen=True, slots=True)
class BuildLimits:
    """What the process may take, and what an avatar may be.

    Attributes:
        memory_bytes: of address space.
        cpu_s: processor time.
        file_bytes: the largest file it may write.
        max_seconds: of a clip.
        max_pixels: of a picture as it comes.
        max_width, max_height: of the avatar; larger pictures are made smaller.
    """

    memory_bytes: int = 3 << 30
    cpu_s: int = 180
    file_bytes: int = 64 << 20
    max_seconds: int = 12
    max_pixels: int = 4096 * 2304
    max_width: int = 1280
    max_height: int = 720


def sniff(head: bytes) -> str:
    """The format of a file by its first 12 bytes: a demuxer's name, or one of IMAGES.

    Raises:
        MediaError: none that is taken.
    """
    if head[4:8] == b"ftyp":
        return "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if head[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    raise MediaError("expected an MP4, MOV or WebM video or a JPEG, PNG or WebP picture")


def confine(limits: BuildLimits) -> None:
    """Limits this process for good; before any byte of the file is read."""
    for kind, most in [
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 4096),
    ]:
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))
    os.umask(0o077)


def build_avatar(
    source: Path, folder: Path, name: str, limits: BuildLimits, report: Callable[[int], None]
) -> None:
    """Makes the avatar's folder from a video or picture.

    Raises:
        MediaError, AvatarError: the file cannot become an avatar, and why.
    """
    cv2.setNumThreads(1)
    with source.open("rb") as file:
        kind = sniff(file.read(12))
    pictures, total = _still(source, limits) if kind in IMAGES else _video(source, kind, limits)
    tracker = FaceTracker(open_detector())
    found: list[tuple[int, F32]] = []
    size = (0, 0)
    count = 0
    folder.mkdir()
    with av.open(str(folder / "clip.mp4"), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        for picture in pictures:
            if count == 0:
                size = (picture.width, picture.height)
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
                stream.time_base = Fraction(1, FPS)
                stream.options = {"crf": "16", "preset": "fast"}
                for _ in range(FIRST_LOOKS):
                    if tracker.update(picture).face is not None:
                        break
                else:
                    raise AvatarError("expected a face in the first picture, found none")
            face = tracker.update(picture).face
            if face is not None:
                found.append((count, face.points))
            frame = av.VideoFrame.from_ndarray(picture.i420, format="yuv420p")
            frame.pts, frame.time_base = count, Fraction(1, FPS)
            container.mux(stream.encode(frame))
            count += 1
            report(min(99, 100 * count // max(total, 1)))
        container.mux(stream.encode(None))
    if len(found) < count * (1 - FACELESS_SHARE):
        raise AvatarError(
            f"expected a face in nearly every picture, found one in {len(found)} of {count}"
        )
    known = np.array([points for _, points in found], np.float64).reshape(-1, 6)
    places = np.array([place for place, _ in found])
    points = np.stack(
        [np.interp(np.arange(count), places, column) for column in known.T], axis=1
    ).reshape(-1, 3, 2)
    description = {
        "name": name,
        "title": name,
        "frames": count,
        "width": size[0],
        "height": size[1],
        "loop": "pingpong",
        "reference_frame": int(places[0]),
        "licence": "",
        "points": points.round(2).tolist(),
    }
    (folder / "avatar.json").write_text(json.dumps(description), encoding="utf-8")
    load_avatar(folder)


def _video(source: Path, demuxer: str, limits: BuildLimits) -> tuple[Iterator[Picture], int]:
    """The pictures of a video and about how many there are."""
    # What the file says of itself is looked at before its first picture is decoded.
    options = {"protocol_whitelist": "file"}
    try:
        with av.open(str(source), format=demuxer, options=options) as container:
            for stream in container.streams.video:
                _check_pixels(stream.width, stream.height, limits)
    except (av.FFmpegError, OSError) as error:
        raise MediaError("expected a video that can be read, this one cannot") from error
    video = VideoFile(source, demuxer)
    most = limits.max_seconds * FPS
    too_long = MediaError(f"expected a video of at most {limits.max_seconds} s")
    if video.info.frames is not None and video.info.frames > most:
        raise too_long

    def pictures() -> Iterator[Picture]:
        for index, picture in enumerate(video.frames()):
            if index == most:
                raise too_long
            yield _smaller(picture, limits)

    return pictures(), video.info.frames or most


def _still(source: Path, limits: BuildLimits) -> tuple[Iterator[Picture], int]:
    """One picture, again and again."""
    # OpenCV itself refuses what has more pixels: the variable is set before it is loaded.
    try:
        bgr = cv2.imread(str(source), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise MediaError("expected a picture of a usual size, this one is too large") from error
    if bgr is None:
        raise MediaError("expected a picture that can be read, this one cannot")
    height, width = bgr.shape[:2]
    _check_pixels(width, height, limits)
    even = np.ascontiguousarray(bgr[: height // 2 * 2, : width // 2 * 2])
    picture = _smaller(Picture(np.asarray(cv2.cvtColor(even, cv2.COLOR_BGR2YUV_I420))), limits)
    return iter([picture] * STILL_FRAMES), STILL_FRAMES


def _check_pixels(width: int, height: int, limits: BuildLimits) -> None:
    if width * height > limits.max_pixels:
        raise MediaError(
            f"expected pictures of at most {limits.max_pixels} pixels, got {width} x {height}"
        )
    if min(width, height) < MIN_SIDE:
        raise MediaError(f"expected pictures of at least {MIN_SIDE} pixels, got {width} x {height}")


def _smaller(picture: Picture, limits: BuildLimits) -> Picture:
    scale = min(limits.max_width / picture.width, limits.max_height / picture.height)
    if scale >= 1:
        return picture
    width, height = (max(int(side * scale) // 2 * 2, 2) for side in (picture.width, picture.height))
    luma, chroma = picture.i420[: picture.height], picture.i420[picture.height :]
    planes = [luma, *chroma.reshape(2, picture.height // 2, picture.width // 2)]
    sizes = [(width, height), *[(width // 2, height // 2)] * 2]
    smaller = [
        np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA)).ravel()
        for plane, size in zip(planes, sizes, strict=True)
    ]
    return Picture(np.concatenate(smaller).reshape(height * 3 // 2, width))


def main(arguments: list[str]) -> int:
    """Runs the process; the exit code."""
    source, folder, name, text = arguments
    limits = BuildLimits(**json.loads(text))
    confine(limits)
    told = -1

    def report(percent: int) -> None:
        nonlocal told
        if percent > told:
            told = percent
            _say({"percent": percent})

    try:
        build_avatar(Path(source), Path(folder), name, limits, report)
    except LipwireError as error:
        _say({"error": str(error).replace(source, "the file")})
        return 1
    except MemoryError:
        _say({"error": "expected a file that decodes in less memory"})
        return 1
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        _say({"error": DISK_FULL})
        return 1
    _say({"done": True})
    return 0


def _say(message: dict[str, object]) -> None:
    print(json.dumps(message), flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
