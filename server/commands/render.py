"""Files in, a file out: `lipwire render`, over the same stream that serves calls."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from engine.avatar import AvatarSource, load_avatar, prepare_avatar
from engine.backends.base import Backend
from engine.backends.select import open_backend
from engine.camera import CameraSource
from engine.checkpoints import resolve_model
from engine.errors import MediaError
from engine.face.detect import open_detector
from engine.face.track import FaceTracker
from engine.media import FPS, FRAME_SAMPLES, Picture
from engine.pipeline import FaceSource
from engine.scheduler import Scheduler
from engine.spec import ModelSpec
from engine.stream import Stream, StreamOptions
from server.avatars.library import AvatarLibrary
from server.config import load_settings
from server.media.media_files import Mp4Writer, SoundFile, VideoFile
from server.run_arguments import add_run_arguments, run_options

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class RenderReport:
    """What was rendered.

    Attributes:
        frames: as many as the sound's length needs, the last perhaps in part.
        generated_frames: of them show a generated mouth, wholly or in part.
        seconds: wall time of the rendering itself.
        backend: what ran the network.
    """

    out: str
    frames: int
    generated_frames: int
    width: int
    height: int
    seconds: float
    backend: str


@dataclass(frozen=True, slots=True)
class RenderInput:
    """Whose mouth is to move.

    Attributes:
        source: of the stream.
        pictures: to be pushed into it, one a frame; None: it has its own.
    """

    source: FaceSource
    width: int
    height: int
    pictures: Iterator[Picture] | None = None


def avatar_input(folder: Path, backend: Backend) -> RenderInput:
    """A prepared avatar.

    Raises:
        AvatarError: the folder cannot be used.
    """
    prepared = prepare_avatar(load_avatar(folder), backend)
    first = prepared.avatar.pictures[0]
    return RenderInput(AvatarSource(prepared), first.width, first.height)


def video_input(path: Path, backend: Backend, model_dir: Path | None = None) -> RenderInput:
    """The largest face of a video, which runs there and back where the speech is longer.

    Args:
        model_dir: the model's folder, where better face detectors may lie.

    Raises:
        MediaError: the file cannot be used.
    """
    video = VideoFile(path)
    tracker = FaceTracker(open_detector(model_dir))
    source = CameraSource(backend.spec, tracker, realtime=False)
    return RenderInput(source, video.info.width, video.info.height, video.there_and_back())


def render(
    backend: Backend,
    given: RenderInput,
    audio: Path,
    out: Path,
    *,
    hop_frames: int | None = None,
    seed: int = 0,
    crf: int = 18,
    advance: Advance = lambda frames: None,
) -> RenderReport:
    """Renders speech onto a face and writes it with its sound.

    Args:
        audio: any file with sound; its length is the result's.
        out: an MP4, which appears when it is complete.
        hop_frames: new frames a call of the network; None: the model's own.
        crf: x264's quality, lower is better and larger.
        advance: told how many frames were finished.

    Raises:
        LipwireError: something given cannot be used.
    """
    began = time.monotonic()
    sound = SoundFile(audio)
    options = StreamOptions(hop_frames=hop_frames, realtime=False, seed=seed)
    stream = Stream(backend, given.source, options)
    scheduler = Scheduler(backend)
    scheduler.add(stream)
    frames = generated = pushed = 0
    size = {"width": given.width, "height": given.height}
    with Mp4Writer(out, **size, channels=sound.channels, crf=crf) as writer:

        def run() -> None:
            nonlocal frames, generated
            while outputs := scheduler.run_due():
                for output in outputs:
                    if output.error is not None:
                        raise output.error
                    for frame in output.frames:
                        writer.add_picture(frame.picture)
                        generated += frame.synced > 0.0
                    frames += len(output.frames)
                    advance(len(output.frames))

        for speech, loud in sound.pieces():
            writer.add_sound(loud)
            stream.push_audio(speech)
            while given.pictures is not None and pushed * FRAME_SAMPLES < stream.position_samples:
                stream.push_video(next(given.pictures), pushed * FRAME_SAMPLES)
                pushed += 1
            run()
        stream.flush()
        run()
        if frames == 0:
            raise MediaError(f"{audio}: expected a sound file, found no sound in it")
    return RenderReport(
        out=str(out),
        frames=frames,
        generated_frames=generated,
        seconds=round(time.monotonic() - began, 3),
        backend=backend.name,
        **size,
    )


def add_render_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `lipwire render` can be told."""
    face = parser.add_mutually_exclusive_group(required=True)
    face.add_argument("--avatar", metavar="NAME", help="a bundled avatar, or a folder of one")
    face.add_argument("--video", type=Path, metavar="FILE", help="a video with a face")
    parser.add_argument(
        "--audio", type=Path, required=True, metavar="FILE", help="the speech, any sound file"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="MP4", help="the result, replaced if there"
    )
    parser.add_argument("--model", help="name or folder of the model (bundled)")
    parser.add_argument("--backend", help="auto, openvino, onnxruntime or torch (auto)")
    parser.add_argument("--hop-frames", type=int, help="new frames a call (the model's own)")
    parser.add_argument("--seed", type=int, default=0, help="of the fixed noise (0)")
    parser.add_argument("--crf", type=int, default=18, help="x264's quality, lower is better (18)")
    parser.add_argument("--json", action="store_true", help="report for programs, no progress bar")
    add_run_arguments(parser)


def run_render(args: argparse.Namespace) -> int:
    """Runs `lipwire render`; the exit code.

    Raises:
        LipwireError: something given cannot be used.
    """
    for given in (args.audio, args.video):
        if given is not None and given.resolve() == args.out.resolve():
            raise MediaError(f"{args.out}: expected another file to write than the one read")
    settings = load_settings()
    folder, run = resolve_model(args.model or settings.model), run_options(settings, args)
    spec = run.applied(ModelSpec.read(folder))
    backend = open_backend(
        folder, args.backend or settings.backend, run.precision, spec, settings.plans
    )
    if args.video is not None:
        chosen = video_input(args.video, backend, folder)
    else:
        clip = Path(args.avatar)
        if not (clip / "avatar.json").is_file():
            clip = AvatarLibrary(settings.avatar_path).get(args.avatar).folder
        chosen = avatar_input(clip, backend)
    seconds = SoundFile(args.audio).seconds
    total = None if seconds is None else -int(-seconds * FPS // 1)
    console = Console(stderr=True)
    with Progress(
        TextColumn(args.out.name, style="bold"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=args.json or not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task("render", total=total)
        report = render(
            backend,
            chosen,
            args.audio,
            args.out,
            hop_frames=args.hop_frames,
            seed=args.seed,
            crf=args.crf,
            advance=lambda frames: progress.advance(task, frames),
        )
    if args.json:
        Console().print_json(json.dumps(asdict(report)))
        return 0
    speed = report.frames / FPS / max(report.seconds, 1e-3)
    console.print(
        f"{report.out}: {report.frames} frames ({report.frames / FPS:.2f} s) of {report.width} x "
        f"{report.height}, {report.generated_frames} with a generated mouth, "
        f"{speed:.1f} x real time on {report.backend}",
        highlight=False,
        soft_wrap=True,
    )
    if report.generated_frames == 0:
        console.print(
            "No mouth was generated: no face was found, or the sound is silent.", style="yellow"
        )
    return 0
