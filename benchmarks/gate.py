"""The gate on rendered scenes: does it close when it must, stay open when it must, and how soon.

    python -m benchmarks.gate --json benchmarks/results/gate.json --sheet docs/img/gate.jpg

Heads are drawn by `training.faces`, so no figure here speaks for real cameras. The people
before number 18 were looked at while thresholds were chosen; those from 18 on were not.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from benchmarks.gate_scenes import (
    OCCLUDERS,
    Camera,
    Head,
    Occluder,
    Person,
    Placed,
    compose,
    covered,
    framed,
    in_tone,
    people,
    posed_heads,
    talking_heads,
    turned,
)
from engine.face.budget import DetectorBudget
from engine.face.detect import open_detector
from engine.face.track import FaceTracker
from engine.face.tracked import Tracked
from engine.gate import FADE_FRAMES, Fade, SpeechActivity
from engine.media import F32, FPS, FRAME_SAMPLES, U8, Picture

FRAMES: Final = 150
FRAME_MS: Final = 1000 // FPS
_EVENT, _END = 70, 115  # pictures between which something is wrong
_TILE: Final = (96, 72)
_TOLD_APART_MS: Final = 400  # what a change may take, either way


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of a scene.

    Attributes:
        open_wanted: whether the mouth can be seen; None: on its way, either answer is right.
        face: where the followed face is, float32 [3, 2]; None: not asked.
    """

    rgb: U8
    camera: Camera
    open_wanted: bool | None
    face: F32 | None = None


@dataclass(slots=True)
class Run:
    """What the tracker answered to a scene.

    Attributes:
        pictures: every 5th, small, for the sheet.
    """

    scene: str
    person: str
    wanted: list[bool | None] = field(default_factory=list)
    answers: list[Tracked] = field(default_factory=list)
    cost_ms: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    pictures: list[U8] = field(default_factory=list)

    @property
    def open(self) -> list[bool]:
        return [answer.closed is None for answer in self.answers]

    def figures(self) -> dict[str, Any]:
        """Rates and delays; None where the scene has no such event."""
        opened = self.open
        must_open = [index for index, wanted in enumerate(self.wanted) if wanted is True]
        must_close = [index for index, wanted in enumerate(self.wanted) if wanted is False]
        closing = must_close[0] if must_close else None
        opening = None
        if closing is not None:
            opening = next((index for index in must_open if index > closing), None)
        # A change has its own time; what is wrong beyond it is an error.
        slack = _TOLD_APART_MS // FRAME_MS
        after = [i for i in (0, opening) if i is not None]
        settled_open = [i for i in must_open if not any(a <= i < a + slack for a in after)]
        settled_closed = [i for i in must_close if closing is None or i >= closing + slack]
        return {
            "false_closed_share": _share(not opened[i] for i in settled_open),
            "false_open_share": _share(opened[i] for i in settled_closed),
            "close_delay_ms": None if closing is None else _delay(opened, closing, False),
            "reopen_delay_ms": None if opening is None else _delay(opened, opening, True),
            "reasons": sorted({a.closed for i in must_close if (a := self.answers[i]).closed}),
        }


def _share(values: Iterable[bool]) -> float | None:
    found = list(values)
    return round(sum(found) / len(found), 4) if found else None


def _delay(opened: Sequence[bool], start: int, answer: bool) -> int | None:
    """ms from picture `start` to the first with this answer; None: never."""
    later = (index for index in range(start, len(opened)) if opened[index] is answer)
    first = next(later, None)
    return None if first is None else (first - start) * FRAME_MS


def play(scene: str, person: str, shots: Iterable[Shot], tracker: FaceTracker) -> Run:
    """Shows the scene to a tracker."""
    run = Run(scene, person)
    for index, shot in enumerate(shots):
        picture = shot.camera.shoot(shot.rgb, index)
        began = time.perf_counter()
        answer = tracker.update(picture)
        run.cost_ms.append((time.perf_counter() - began) * 1000)
        run.answers.append(answer)
        run.wanted.append(shot.open_wanted)
        if shot.face is not None and answer.face is not None:
            apart = np.abs(answer.face.points - shot.face).max()
            run.off.append(float(apart / np.hypot(*(shot.face[1] - shot.face[0]))))
        if index % 5 == 0:
            small = cv2.resize(shot.rgb, _TILE, interpolation=cv2.INTER_AREA)
            run.pictures.append(np.asarray(small, np.uint8))
    return run


# Scenes ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stage:
    """What a person's scenes are made of: rendered once.

    Attributes:
        usual, other: the same head in the person's two lights.
        guest: somebody else.
    """

    person: Person
    usual: list[Head]
    other: list[Head]
    guest: list[Head]
    width: int
    height: int

    def shot(self, head: Head, wanted: bool | None = True, camera: Camera | None = None) -> Shot:
        rgb, points = framed(head, self.width, self.height)
        return Shot(rgb, camera or Camera(), wanted, points)

    def lit(self, share: Sequence[float]) -> list[Head]:
        """The head while the second light comes up."""
        return [
            Head(
                np.asarray(cv2.addWeighted(a.picture, 1 - s, b.picture, s, 0.0), np.uint8), a.points
            )
            for a, b, s in zip(self.usual, self.other, share, strict=True)
        ]


def _ramp(*corners: tuple[int, float]) -> list[float]:
    at, values = zip(*corners, strict=True)
    return [float(v) for v in np.interp(np.arange(FRAMES), at, values)]


def talking(stage: Stage) -> Iterable[Shot]:
    return (stage.shot(head) for head in stage.usual)


def poor_camera(stage: Stage) -> Iterable[Shot]:
    camera = Camera(noise=6.0, blur=1.2, quality=25)
    return (stage.shot(head, camera=camera) for head in stage.usual)


def light_comes_up(stage: Stage) -> Iterable[Shot]:
    return (stage.shot(head) for head in stage.lit(_ramp((50, 0.0), (90, 0.9))))


def lamp_is_switched(stage: Stage) -> Iterable[Shot]:
    share = [0.7 if index >= 75 else 0.0 for index in range(FRAMES)]
    return (stage.shot(head) for head in stage.lit(share))


def exposure_wanders(stage: Stage) -> Iterable[Shot]:
    for index, head in enumerate(stage.usual):
        drift = 0.06 * np.sin(index / 20)
        gain = 1.0 + 0.25 * np.sin(index / 12)
        balance = (float(1 + drift), 1.0, float(1 - drift))
        yield stage.shot(head, camera=Camera(gain=float(gain), balance=balance))


def looks_aside(stage: Stage) -> Iterable[Shot]:
    yaw = _ramp((50, 0.0), (65, 22.0), (95, 22.0), (125, -22.0))
    return (stage.shot(turned(head, y)) for head, y in zip(stage.usual, yaw, strict=True))


def _turn(stage: Stage, yaw: Sequence[float]) -> Iterable[Shot]:
    for head, angle in zip(stage.usual, yaw, strict=True):
        size = abs(angle)
        wanted = True if size < 25.0 else False if size > 35.0 else None
        yield stage.shot(turned(head, angle), wanted)


def profile_right(stage: Stage) -> Iterable[Shot]:
    return _turn(stage, _ramp((60, 0.0), (70, 60.0), (_END, 60.0), (_END + 10, 0.0)))


def profile_left_slow(stage: Stage) -> Iterable[Shot]:
    return _turn(stage, _ramp((40, 0.0), (70, -55.0), (90, -55.0), (120, 0.0)))


def profile_rendered(stage: Stage) -> Iterable[Shot]:
    yaw = _ramp((60, 0.0), (70, 40.0), (_END, 40.0), (_END + 10, 0.0))
    for head, angle in zip(posed_heads(stage.person, yaw, 5), yaw, strict=True):
        yield stage.shot(head, True if angle < 25.0 else False if angle > 35.0 else None)


def cover(kind: Occluder) -> Callable[[Stage], Iterable[Shot]]:
    def scene(stage: Stage) -> Iterable[Shot]:
        progress = _ramp((_EVENT, 0.0), (_EVENT + 10, 1.0), (_END, 1.0), (_END + 10, 0.0))
        for head, share in zip(stage.usual, progress, strict=True):
            wanted = True if share <= 0.0 else False if share >= 0.95 else None
            yield stage.shot(covered(head, kind, share), wanted)

    return scene


def leaves(stage: Stage) -> Iterable[Shot]:
    """The head walks out of the picture and comes back."""
    shift = _ramp((60, 0.5), (75, 1.4), (110, 1.4), (125, 0.5))
    for head, x in zip(stage.usual, shift, strict=True):
        rgb = compose([Placed(head, stage.height / 512, x)], stage.width, stage.height)
        yield Shot(rgb, Camera(), True if x < 0.7 else False if x > 1.1 else None)


def cut_to_guest(stage: Stage) -> Iterable[Shot]:
    """Another person, smaller, elsewhere and in the dark, from one picture to the next."""
    scale = 0.7 * stage.height / 512
    for index, head in enumerate(stage.usual):
        if index < 75:
            yield stage.shot(head)
            continue
        placed = Placed(stage.guest[index], scale, 0.3, 0.55)
        rgb = compose([placed], stage.width, stage.height)
        points = _placed_points(placed, stage.width, stage.height)
        yield Shot(rgb, Camera(gain=0.5), True if index >= 85 else None, points)


def guest_in_its_place(stage: Stage) -> Iterable[Shot]:
    """Another person where the first one was, in the same picture: not seen as a cut."""
    for index, head in enumerate(stage.usual):
        if index < 75:
            yield stage.shot(head)
            continue
        yield stage.shot(stage.guest[index], True if index >= 110 else None)


def _placed_points(item: Placed, width: int, height: int) -> F32:
    corner = np.array([item.x * width, item.y * height]) - item.scale * 256
    return np.asarray(item.head.points * item.scale + corner, np.float32)


def larger_face_appears(stage: Stage) -> Iterable[Shot]:
    """Somebody nearer to the camera comes in; the first one must be followed."""
    scale = 0.55 * stage.height / 512
    rise = _ramp((60, 1.9), (85, 0.56))
    for index, head in enumerate(stage.usual):
        first = Placed(head, scale, 0.27, 0.5)
        guest = Placed(stage.guest[index], 1.5 * scale, 0.72, rise[index])
        rgb = compose([first, guest], stage.width, stage.height)
        yield Shot(rgb, Camera(), True, _placed_points(first, stage.width, stage.height))


def somebody_passes(stage: Stage) -> Iterable[Shot]:
    """Somebody passes before the one who is followed."""
    scale = 0.6 * stage.height / 512
    path = _ramp((50, -0.4), (110, 1.4))
    for index, head in enumerate(stage.usual):
        first = Placed(head, scale, 0.5, 0.5)
        guest = Placed(stage.guest[index], 1.1 * scale, path[index], 0.5)
        apart = abs(path[index] - 0.5)
        wanted = True if apart > 0.4 else False if apart < 0.1 else None
        rgb = compose([first, guest], stage.width, stage.height)
        yield Shot(rgb, Camera(), wanted, _placed_points(first, stage.width, stage.height))


def leaves_to_another(stage: Stage) -> Iterable[Shot]:
    """Two faces; the followed one leaves, and after two seconds the other is enrolled."""
    scale = 0.6 * stage.height / 512
    path = _ramp((30, 0.3), (45, -0.5))
    for index, head in enumerate(stage.usual):
        first = Placed(head, 1.15 * scale, path[index], 0.5)
        guest = Placed(stage.guest[index], 0.9 * scale, 0.72, 0.5)
        wanted = True if index < 32 or index >= 100 else False if 47 <= index < 90 else None
        shown = [guest, first] if index >= 12 else [first]  # who comes first is enrolled
        rgb = compose(shown, stage.width, stage.height)
        face = guest if index >= 100 else first if index < 32 else None
        points = None if face is None else _placed_points(face, stage.width, stage.height)
        yield Shot(rgb, Camera(), wanted, points)


SCENES: Final[dict[str, Callable[[Stage], Iterable[Shot]]]] = {
    "talking": talking,
    "poor camera": poor_camera,
    "light comes up": light_comes_up,
    "lamp is switched": lamp_is_switched,
    "exposure wanders": exposure_wanders,
    "looks aside, 22 degrees": looks_aside,
    "profile, 60 degrees": profile_right,
    "profile, slowly": profile_left_slow,
    "profile, renderer's 40 degrees": profile_rendered,
    **{f"cover: {kind}": cover(kind) for kind in OCCLUDERS},
    "face leaves": leaves,
    "scene cut": cut_to_guest,
    "another in its place": guest_in_its_place,
    "larger face appears": larger_face_appears,
    "somebody passes": somebody_passes,
    "followed face leaves two": leaves_to_another,
}


def stages(
    first: int, count: int, width: int, height: int, tone: int | None = None
) -> Iterable[Stage]:
    """The people from `first` on, in one skin tone if asked, each with the next as guest."""
    cast = people(first + count + 1)
    for number in range(first, first + count):
        person, guest = cast[number], cast[number + 1]
        if tone is not None:
            person = in_tone(person, tone)
        yield Stage(
            person,
            talking_heads(person, FRAMES, number, lively=0.9),
            talking_heads(person, FRAMES, number, lively=0.9, light=[0.9999] * FRAMES),
            talking_heads(guest, FRAMES, number + 1, lively=0.9),
            width,
            height,
        )


# Figures --------------------------------------------------------------------------------------


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """A scene's figures over all people."""
    each = [run.figures() for run in runs]

    def worst(name: str) -> tuple[float | None, float | None]:
        values = [f[name] for f in each if f[name] is not None]
        return (round(statistics.mean(values), 4), max(values)) if values else (None, None)

    result: dict[str, Any] = {"runs": len(runs)}
    for name in ("false_closed_share", "false_open_share", "close_delay_ms", "reopen_delay_ms"):
        mean, most = worst(name)
        if mean is not None:
            result[name] = {"mean": mean, "max": most}
    closes = [f for f, run in zip(each, runs, strict=True) if False in run.wanted]
    if closes:
        result["never_closed"] = sum(f["close_delay_ms"] is None for f in closes)
        again = [r for r in runs if False in r.wanted and _opens_again(r)]
        result["never_reopened"] = sum(r.figures()["reopen_delay_ms"] is None for r in again)
        result["reasons"] = sorted({reason for f in closes for reason in f["reasons"]})
    off = [value for run in runs for value in run.off[FPS:]]
    if off:
        result["points_off_p95"] = round(float(np.percentile(off, 95)), 3)
    strangers = [sum(answer.stranger for answer in run.answers) for run in runs]
    if any(strangers):
        result["strangers_enrolled"] = strangers
    return result


def _opens_again(run: Run) -> bool:
    first = run.wanted.index(False)
    return True in run.wanted[first:]


def silence_figures() -> dict[str, Any]:
    """Avatar mode: when the mouth is there and gone around one second of speech."""
    rng = np.random.default_rng(0)
    samples = np.zeros(100 * FRAME_SAMPLES, np.float32)
    span = slice(40 * FRAME_SAMPLES, 65 * FRAME_SAMPLES)
    samples[span] = 0.1 * rng.standard_normal(25 * FRAME_SAMPLES)
    activity, fade = SpeechActivity(), Fade()
    activity.push(samples)
    factors = [fade.step(activity.speaking(frame)) for frame in range(95)]
    full = factors.index(1.0)
    gone = next(index for index in range(65, 95) if factors[index] == 0.0)
    return {
        "mouth_complete_before_speech_ms": (40 - full) * FRAME_MS,
        "source_back_after_speech_ms": (gone - 65) * FRAME_MS,
        "fade_frames": FADE_FRAMES,
    }


def cost_figures(stage: Stage, sessions: int = 3) -> dict[str, Any]:
    """ms a picture of tracking alone, one session and several on one budget."""
    result: dict[str, Any] = {}
    still = [
        Camera().shoot(framed(head, stage.width, stage.height)[0], i)
        for i, head in enumerate(stage.usual)
    ]
    empty = [
        Camera().shoot(compose([], stage.width, stage.height), index) for index in range(FRAMES)
    ]
    for name, pictures in (("face", still), ("no face", empty)):
        result[name] = _quantiles(
            _times([FaceTracker(open_detector(), DetectorBudget())], pictures)
        )
        detector, budget = open_detector(), DetectorBudget()
        many = [FaceTracker(detector, budget) for _ in range(sessions)]
        times = np.array(_times(many, pictures)).reshape(-1, sessions)
        label = f"{name}, {sessions} sessions"
        result[label] = _quantiles([float(t) for t in times.sum(axis=1)])
        result[label]["searches_refused"] = budget.refused
    return result


def _times(trackers: Sequence[FaceTracker], pictures: Sequence[Picture]) -> list[float]:
    taken = []
    for picture in pictures:
        for tracker in trackers:
            began = time.perf_counter()
            tracker.update(picture)
            taken.append((time.perf_counter() - began) * 1000)
    return taken


def _quantiles(taken: Sequence[float]) -> dict[str, float]:
    p50, p95, most = np.percentile(taken, [50, 95, 100])
    return {"p50_ms": round(p50, 2), "p95_ms": round(p95, 2), "max_ms": round(most, 2)}


def draw_sheet(runs: Sequence[Run], columns: int = 12) -> U8:
    """Scenes as rows of pictures, framed green where the gate is open and by reason where not."""
    colours = {
        None: (60, 180, 75),
        "no_face": (140, 140, 140),
        "profile": (65, 105, 225),
        "occluded": (220, 60, 50),
        "cut": (240, 200, 40),
    }
    rows = []
    for run in runs:
        tiles = []
        chosen = np.linspace(6, len(run.pictures) - 1, columns).astype(int)
        for index in chosen:
            picture = run.pictures[index]
            tile = np.asarray(cv2.resize(picture, _TILE, interpolation=cv2.INTER_AREA), np.uint8)
            colour = colours[run.answers[5 * int(index)].closed]
            tiles.append(cv2.copyMakeBorder(tile, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=colour))
        label = np.full((_TILE[1] + 6, 150, 3), 255, np.uint8)
        words = run.scene.split(", ")
        for line, text in enumerate(words):
            place = (4, 34 + 16 * line)
            cv2.putText(
                label, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (0, 0, 0), 1, cv2.LINE_AA
            )
        rows.append(np.hstack([label, *tiles]))
    return np.asarray(np.vstack(rows), np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="where the figures go; default: printed only")
    parser.add_argument("--sheet", type=Path, help="a picture to look at")
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--first", type=int, default=18, help="number of the first person")
    parser.add_argument("--tone", type=int, help="skin of all of them, 0 light to 5 dark")
    parser.add_argument("--scene", action="append", help="only these")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    names = arguments.scene or list(SCENES)
    by_scene: dict[str, list[Run]] = {name: [] for name in names}
    size = arguments.width, arguments.height
    for stage in stages(arguments.first, arguments.people, *size, arguments.tone):
        for name in names:
            tracker = FaceTracker(open_detector(), DetectorBudget())
            run = play(name, stage.person.name, SCENES[name](stage), tracker)
            by_scene[name].append(run)
            print(f"{stage.person.name:>10}  {name:<32} {run.figures()}", flush=True)  # noqa: T201
    report: dict[str, Any] = {
        "command": "python -m benchmarks.gate",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread used",
        "size": list(size),
        "people": [run.person for run in by_scene[names[0]]],
        "scenes": {name: summary(runs) for name, runs in by_scene.items()},
    }
    if arguments.scene is None:
        report["silence"] = silence_figures()
        all_ms = [ms for runs in by_scene.values() for run in runs for ms in run.cost_ms]
        report["tracking_ms_a_picture"] = {"all scenes": _quantiles(all_ms)}
        report["load_average"] = round(os.getloadavg()[0], 1)  # other work slows these down
        for width, height in ((640, 480), (1280, 720)):
            sized = dataclasses.replace(stage, width=width, height=height)
            report["tracking_ms_a_picture"][f"{width}x{height}"] = cost_figures(sized)
    text = json.dumps(report, indent=2)
    print(text)  # noqa: T201
    if arguments.json is not None:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    if arguments.sheet is not None:
        sheet = draw_sheet([runs[0] for runs in by_scene.values()])
        bgr = np.ascontiguousarray(sheet[..., ::-1])
        cv2.imwrite(str(arguments.sheet), bgr, [cv2.IMWRITE_JPEG_QUALITY, 72])


if __name__ == "__main__":
    main()
