"""One video through all the stages: from a file to clips and to what was left out of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.errors import MediaError
from engine.face.align import latentsync_face
from engine.face.detect import FaceDetector
from engine.media import F32, FPS, U8
from engine.spec import FaceSpec
from training.prepare.align import ClipAligner, face_luma
from training.prepare.check import SourceInfo, check_source, declared_seconds
from training.prepare.clip_file import replace_sound, write_clip
from training.prepare.cut import cut_clips, same_reason, unbroken_runs, with_guard
from training.prepare.faces import GUARD_FRAMES, FrameFace, follow_faces
from training.prepare.pictures import GridFrame, grid_frames
from training.prepare.quality import LOOK_EVERY, QualityJudge
from training.prepare.records import ClipRecord, Prepared
from training.prepare.report import Finding, Stage
from training.prepare.settings import Settings
from training.prepare.shots import find_shots
from training.prepare.sound import load_sound, speaking_share
from training.prepare.sources import Source
from training.prepare.sync import (
    MARGIN_FRAMES,
    MIN_SPEAKING,
    SyncCurve,
    SyncJudge,
    clip_sound,
    source_offset,
)

PASSES = 3  # times that a video is decoded
_WORTH_A_LINE_S = 1.0  # of pictures without sound

Advance = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Tools:
    """What a process uses for all of its videos."""

    detector: FaceDetector
    quality: QualityJudge
    sync: SyncJudge | None


@dataclass(frozen=True, slots=True)
class JudgedClip:
    """A clip on disk, its sound where the video has it, and what the judge of sync measured."""

    file: str
    frames: range
    quality: float
    curve: SyncCurve | None


@dataclass(slots=True)
class StageClock:
    """Seconds of work by stage."""

    spent_s: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.spent_s[stage] = self.spent_s.get(stage, 0.0) + time.perf_counter() - began


def rejected(source: Source, stage: Stage, reason: str) -> Prepared:
    """A video of which nothing is kept."""
    seconds = round(declared_seconds(source.path), 3)
    finding = Finding(source.name, stage, reason, 0.0, seconds)
    return Prepared(source.name, source.bytes, seconds, (), (finding,))


def prepare_source(
    source: Source,
    settings: Settings,
    tools: Tools,
    folder: Path,
    clock: StageClock,
    advance: Advance,
) -> Prepared:
    """Writes the clips of one video into `folder`/clips.

    A video that cannot be used is no error: what it returns says why. The same video, settings
    and tools give the same clips.

    Args:
        advance: called with seconds of work done, PASSES times the video's length in all.

    Raises:
        OSError: a clip cannot be written.
    """
    try:
        with clock.of("check"):
            info = check_source(source.path, settings.shortest_s)
        work = _Work(source, settings, tools, folder, clock, advance, info)
        with clock.of("shots"):
            shots = find_shots(work.frames())
        with clock.of("resample"):
            sound = load_sound(source.path, info.origin)
        with clock.of("faces"):
            faces = work.follow(shots)
    except MediaError as error:
        return rejected(source, "check", str(error))
    return work.make_clips(shots, faces, sound)


class _Work:
    """The steps of `prepare_source` that need most of what it has."""

    def __init__(
        self,
        source: Source,
        settings: Settings,
        tools: Tools,
        folder: Path,
        clock: StageClock,
        advance: Advance,
        info: SourceInfo,
    ) -> None:
        self._source, self._settings, self._tools = source, settings, tools
        self._folder, self._clock, self._advance, self._info = folder, clock, advance, info
        self._face: FaceSpec = latentsync_face(settings.resolution)
        self._findings: list[Finding] = []
        self._judged: list[JudgedClip] = []
        self._clips: list[ClipRecord] = []

    def frames(self) -> Iterator[GridFrame]:
        """The video at 25 frames a second, once more."""
        for frame in grid_frames(self._source.path, self._info.origin, self._info.frames):
            yield frame
            self._advance(1.0 / FPS)

    def follow(self, shots: list[range]) -> list[FrameFace]:
        smallest = self._settings.smallest_face
        return follow_faces(self.frames(), shots, self._tools.detector, self._face, smallest)

    def make_clips(self, shots: list[range], faces: list[FrameFace], sound: F32) -> Prepared:
        self._remark(shots)
        starts = {shot.start for shot in shots}
        breaks = [index in starts or face.other for index, face in enumerate(faces)]
        reasons = with_guard([face.reason for face in faces], GUARD_FRAMES)
        for stretch, reason in same_reason(reasons):
            self._leave_out("faces", reason, stretch)
        clips: list[range] = []
        for run in unbroken_runs(reasons, breaks):
            pieces = cut_clips(run, self._settings.shortest_frames, self._settings.longest_frames)
            if not pieces:
                self._leave_out("cut", "too short between cuts and gaps", run)
            clips += pieces
        self._crop_and_judge(clips, faces, sound)
        self._synchronise(sound)
        return Prepared(
            self._source.name,
            self._source.bytes,
            round(self._info.picture_seconds, 3),
            tuple(self._clips),
            tuple(self._findings),
        )

    def _remark(self, shots: list[range]) -> None:
        whole = range(shots[0].start, shots[-1].stop) if shots else range(0)
        for remark in self._info.remarks():
            self._find("check", remark, whole, kept=True)
        if len(shots) > 1:
            self._find("shots", f"cut into shots: {len(shots)}", whole, kept=True)
        missing = self._info.picture_seconds - len(whole) / FPS
        if missing > _WORTH_A_LINE_S:
            self._findings.append(
                Finding(
                    self._source.name,
                    "resample",
                    "pictures without sound",
                    len(whole) / FPS,
                    round(missing, 3),
                )
            )

    def _crop_and_judge(self, clips: list[range], faces: list[FrameFace], sound: F32) -> None:
        """Reads the video a last time, clip by clip."""
        pending = iter(clips)
        clip = next(pending, None)
        aligner = ClipAligner(self._face, self._settings.resolution)
        crops: list[U8] = []
        lumas: list[U8] = []
        for frame in self.frames():
            if clip is None or frame.index not in clip:
                continue
            points = faces[frame.index].points
            assert points is not None  # clips are cut from frames that can be used
            with self._clock.of("align"):
                picture = frame.picture()
                crops.append(aligner.crop(picture, points))
                if (frame.index - clip.start) % LOOK_EVERY == 0:
                    lumas.append(face_luma(picture, points, self._face))
            if frame.index == clip.stop - 1:
                self._judge(clip, np.stack(crops), lumas, sound)
                clip = next(pending, None)
                aligner = ClipAligner(self._face, self._settings.resolution)
                crops, lumas = [], []

    def _judge(self, clip: range, crops: U8, lumas: list[U8], sound: F32) -> None:
        settings = self._settings
        if speaking_share(clip_sound(sound, clip)) < MIN_SPEAKING:
            self._leave_out("sync", "nobody speaks", clip)
            return
        with self._clock.of("quality"):
            quality = self._tools.quality.score(crops[::LOOK_EVERY], lumas)
        if quality < settings.min_quality:
            self._leave_out("quality", f"poor pictures: quality {quality:.0f}", clip)
            return
        curve = None
        if self._tools.sync is not None:
            with self._clock.of("sync"):
                around = clip_sound(sound, clip, margin=MARGIN_FRAMES)
                curve = self._tools.sync.curve(crops, around)
            if curve is None:
                self._leave_out("sync", "too short to judge its sync", clip)
                return
        name = f"clips/{self._source.key}-{len(self._judged):04d}.mp4"
        with self._clock.of("write"):
            write_clip(self._folder / name, crops, clip_sound(sound, clip))
        self._judged.append(JudgedClip(name, clip, quality, curve))

    def _synchronise(self, sound: F32) -> None:
        """Moves the sound of all clips by what they say together, and keeps those that fit then."""
        settings = self._settings
        curves = [judged.curve for judged in self._judged if judged.curve is not None]
        moved = source_offset(curves)
        if 0 < abs(moved) <= settings.max_offset_frames:
            whole = range(self._info.frames)
            self._find("sync", f"sound moved: by {moved} frames", whole, kept=True)
        for judged in self._judged:
            reason = None
            confidence = 0.0
            if judged.curve is not None:
                confidence = judged.curve.confidence(moved)
                if abs(moved) > settings.max_offset_frames:
                    reason = f"sound too far off: {-moved:+d} frames"
                elif confidence < settings.min_confidence:
                    reason = f"mouth does not fit the sound: confidence {confidence:.3g}"
            if reason is not None:
                self._leave_out("sync", reason, judged.frames)
                (self._folder / judged.file).unlink()
                continue
            if moved:
                with self._clock.of("write"):
                    samples = clip_sound(sound, judged.frames, moved)
                    replace_sound(self._folder / judged.file, samples)
            self._clips.append(
                ClipRecord(
                    file=judged.file,
                    frames=len(judged.frames),
                    offset_frames=0,
                    sync_confidence=round(confidence, 4),
                    quality=round(judged.quality, 1),
                    source=self._source.name,
                    start_s=judged.frames.start / FPS,
                    moved_frames=moved,
                )
            )

    def _leave_out(self, stage: Stage, reason: str, frames: range) -> None:
        self._find(stage, reason, frames, kept=False)

    def _find(self, stage: Stage, reason: str, frames: range, *, kept: bool) -> None:
        start, seconds = frames.start / FPS, len(frames) / FPS
        self._findings.append(Finding(self._source.name, stage, reason, start, seconds, kept))
