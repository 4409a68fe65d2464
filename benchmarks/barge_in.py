"""How fast an interrupt silences a call and rests its mouth, measured at the receiver.

    python -m benchmarks.barge_in --json barge_in.json
    python -m benchmarks.barge_in --transport webrtc --interrupts 60 --beside 1

A server is started as its user starts it, and an avatar says held-out speech, over which a faint
tone lies so that every sample of it can be heard. At a random moment of it the client interrupts.
Times count from the sending of the interrupt: until the last sample of the old utterance that is
audible, as a player would play it, and until the first picture from which on the mouth rests.
That is judged by pixels (`benchmarks.resting_mouth`); over a WebSocket the generation in the
packets' headers is counted beside it, and must agree. The server's own part, from an interrupt's
arrival to the first resting picture encoded and sent, is its stage `rest`. In live mode over
WebRTC, with the avatar's clip for a camera, only that part is judged: the mouth is the camera's.
`--beside` lets other calls speak without a pause meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np

from benchmarks.latency import Spread, start_server
from benchmarks.quality.material import load_speeches
from benchmarks.recorded_lines import (
    FRAME_US,
    HeardBlock,
    Line,
    Log,
    SeenPicture,
    Transport,
    open_line,
)
from benchmarks.report import here
from benchmarks.resting_mouth import Judge, RestingMouth
from benchmarks.server_watch import read_metrics
from engine.media import FRAME_SAMPLES, U8
from server.client.capture import I16
from server.client.errors import CallRefused
from server.config import BUNDLED_AVATARS
from server.media.media_clock import TICK_HZ, TICKS_PER_SAMPLE
from server.webrtc import aiortc_overrides

CASES: tuple[str, ...] = ("websocket", "webrtc", "live")
TONE_HZ, TONE_PEAK = 3000, 500  # -36 dBFS
OPENING, OPEN = 0, 0.15  # column of the mouth's truth, and from where on lips are apart
AUDIBLE = 100  # of int16: -50 dBFS
SETTLE_S = 4.0  # connecting, and the resting pictures that the judge learns from
RESTS_S = 2.0  # the last of them
SPOKEN_S = (1.0, 4.0)  # how much is heard before an interrupt
WATCH_S = 1.5  # after it
ADMITTED_S = 120.0
PLACES_S = 0.6  # after it, in which no place may be without a picture
STRIP_PICTURES = (2, 5)  # of the first trials, before and after the interrupt, for somebody to see
STRIPS, STRIP_WIDTH = 6, 256
ESTABLISHED_S = 0.5  # of speech, until the mouth is sure to speak


@dataclass(frozen=True, slots=True)
class Trial:
    """One interrupt, with times from its sending in ms.

    Attributes:
        open: the mouth did not rest in the last picture before.
        told_ms: until `interrupted` came.
        silent_ms: until the last audible sample of the old utterance.
        rest_ms: until the first picture from which on the mouth rests.
        moving_pictures: whose mouth does not rest, after the interrupt was sent.
        moving_after_told: those of them after `interrupted`.
        old_packets_after_told: sound and pictures whose header has the old generation, after it.
        old_pictures: whose header has the old generation, after the interrupt was sent: they were
            with the encoder or on the wire.
        disagreements: pictures of the new generation whose mouth does not rest, without the first,
            which is half way.
        empty_places: of media time without a picture, soon after.
    """

    open: bool
    told_ms: float
    silent_ms: float
    rest_ms: float
    moving_pictures: int
    moving_after_told: int
    old_packets_after_told: int | None
    old_pictures: int | None
    disagreements: int | None
    empty_places: int


def judge_trial(log: Log, sent: float, distances: Sequence[float], threshold: float) -> Trial:
    """What the log shows of an interrupt that was sent at `sent`.

    Args:
        distances: of the log's pictures from rest.
    """
    told = next(at for at in log.told if at >= sent)
    after = [
        (picture, distance)
        for picture, distance in zip(log.pictures, distances, strict=True)
        if picture.at >= sent
    ]
    moving = [place for place, (_, distance) in enumerate(after) if distance > threshold]
    first_resting = moving[-1] + 1 if moving else 0
    rest_at = after[first_resting][0].at
    generations = [picture.generation for picture, _ in after]
    old: int | None = None
    old_pictures: int | None = None
    disagreements: int | None = None
    if generations[0] is not None:
        newest = max(generation or 0 for generation in generations)
        packets: list[HeardBlock | SeenPicture] = [*log.sound, *log.pictures]
        old = sum(item.at > told and (item.generation or 0) < newest for item in packets)
        new = [place for place, generation in enumerate(generations) if generation == newest]
        old_pictures = len(generations) - len(new)
        disagreements = sum(place in moving for place in new[1:])
    before = distances[len(log.pictures) - len(after) - 1]
    return Trial(
        open=before > threshold,
        told_ms=1000 * (told - sent),
        silent_ms=1000 * (last_heard(log, sent) - sent),
        rest_ms=1000 * (rest_at - sent),
        moving_pictures=len(moving),
        moving_after_told=sum(after[place][0].at > told for place in moving),
        old_packets_after_told=old,
        old_pictures=old_pictures,
        disagreements=disagreements,
        empty_places=empty_places(log, sent),
    )


def last_heard(log: Log, sent: float) -> float:
    """When the last audible sample could be played; `sent` if that was before."""
    heard = sent
    for block in log.sound:
        loud = np.flatnonzero(np.abs(block.samples.astype(np.int32)) > AUDIBLE)
        if len(loud):
            heard = max(heard, block.at + float(loud[-1] + 1) / TICK_HZ)
    return heard


def empty_places(log: Log, sent: float) -> int:
    """Places without a picture between the last one before `sent` and those soon after it."""
    before = [picture.frame for picture in log.pictures if picture.at < sent][-1:]
    after = [p.frame for p in log.pictures if sent <= p.at < sent + PLACES_S]
    places = {*before, *after}
    return max(places) - min(places) + 1 - len(places) if places else 0


async def interrupts(
    line: Line, count: int, dice: random.Random
) -> AsyncIterator[tuple[Log, float, float]]:
    """Interrupts one call again and again: what came back, when speech began, when it was sent."""
    speech = lively_speech()
    for number in range(count):
        line.log = Log()
        saying = asyncio.create_task(line.say(np.roll(speech, -dice.randrange(len(speech)))))
        began = await _until_heard(line)
        await asyncio.sleep(dice.uniform(*SPOKEN_S))
        sent = time.monotonic()
        await line.interrupt()
        await asyncio.sleep(WATCH_S)
        await saying
        sys.stderr.write(f"\r{number + 1}/{count}")
        log, line.log = line.log, Log()
        yield log, began, sent


async def run_trials(
    line: Line, mouth: RestingMouth, count: int, dice: random.Random, strips: Strips
) -> dict[str, Any]:
    """The figures of an avatar's call."""
    await asyncio.sleep(SETTLE_S)
    resting = _distances(mouth, [p for p in line.log.pictures if p.at > time.monotonic() - RESTS_S])
    said: list[tuple[Log, float, list[float]]] = []
    speaking: list[float] = []
    async for log, began, sent in interrupts(line, count, dice):
        distances = await asyncio.to_thread(_distances, mouth, log.pictures)
        said.append((log, sent, distances))
        speaking += [
            distance
            for picture, distance in zip(log.pictures, distances, strict=True)
            if began + ESTABLISHED_S < picture.at < sent
        ]
        strips.add(log, sent)
        log.forget_pixels()
    judge = Judge.of(resting, speaking)
    trials = [judge_trial(log, sent, distances, judge.threshold) for log, sent, distances in said]
    return {"judge": judge.describe(), **summary(trials)}


async def run_live_trials(
    line: Line, count: int, dice: random.Random, strips: Strips
) -> dict[str, Any]:
    """The figures of a live call, whose mouth is the camera's after an interrupt."""
    await asyncio.sleep(SETTLE_S)
    silent: list[float] = []
    empty = 0
    async for log, _, sent in interrupts(line, count, dice):
        silent.append(1000 * (last_heard(log, sent) - sent))
        empty += empty_places(log, sent)
        strips.add(log, sent)
        log.forget_pixels()
    return {"interrupts": count, "silent_ms": asdict(Spread.of(silent)), "empty_places": empty}


class Strips:
    """Pictures around the first interrupts, side by side, for somebody to look at.

    Args:
        folder: takes them as PNG; None: nobody will look.
    """

    def __init__(self, folder: Path | None, name: str) -> None:
        self._folder = folder
        self._name = name
        self._rows: list[U8] = []

    def add(self, log: Log, sent: float) -> None:
        """One interrupt: the pictures that came before it, and those after it."""
        if self._folder is None or len(self._rows) == STRIPS:
            return
        before, after = STRIP_PICTURES
        first = sum(picture.at < sent for picture in log.pictures)
        around = log.pictures[max(first - before, 0) : first + after]
        size = (STRIP_WIDTH, STRIP_WIDTH)
        self._rows.append(np.hstack([cv2.resize(p.luma(), size) for p in around]))
        self._folder.mkdir(parents=True, exist_ok=True)
        width = min(row.shape[1] for row in self._rows)
        sheet = np.vstack([row[:, :width] for row in self._rows])
        cv2.imwrite(str(self._folder / f"{self._name}.png"), sheet)


def _distances(mouth: RestingMouth, pictures: Sequence[SeenPicture]) -> list[float]:
    return [mouth.distance(picture.luma(), picture.frame) for picture in pictures]


async def _until_heard(line: Line) -> float:
    """When the first audible block came."""
    async with asyncio.timeout(10):
        while True:
            for block in line.log.sound:
                if np.abs(block.samples).max() > AUDIBLE:
                    return block.at
            await asyncio.sleep(0.01)


def lively_speech() -> I16:
    """Held-out speech at 48 kHz without its pauses, so that an interrupt finds the mouth open.

    A tone lies over it, which makes every sample of it audible.
    """
    parts = []
    for speech in load_speeches():
        opened = speech.mouth[:, OPENING] > OPEN
        frames = speech.samples.reshape(len(opened), FRAME_SAMPLES)
        parts.append(frames[np.convolve(opened, np.ones(3), "same") > 0].reshape(-1))
    voice = np.concatenate(parts)
    places = np.arange(len(voice) * TICKS_PER_SAMPLE)
    samples = np.interp(places / TICKS_PER_SAMPLE, np.arange(len(voice)), voice) * 32767
    tone = TONE_PEAK * np.sin(2 * np.pi * TONE_HZ * places / TICK_HZ)
    return np.asarray(np.clip(samples + tone, -32768, 32767), np.int16)


def summary(trials: Sequence[Trial]) -> dict[str, Any]:
    """Percentiles and counts of one transport."""
    two_frames_ms = 2 * FRAME_US / 1000
    opened = [trial for trial in trials if trial.open]
    old = [trial.old_packets_after_told for trial in trials]
    disagreements = [trial.disagreements for trial in trials]
    old_pictures = [trial.old_pictures for trial in trials if trial.old_pictures is not None]
    return {
        "interrupts": len(trials),
        "silent_ms": asdict(Spread.of([trial.silent_ms for trial in trials])),
        "mouth_open": len(opened),
        "rest_ms": asdict(Spread.of([trial.rest_ms for trial in opened])),
        "told_ms": asdict(Spread.of([trial.told_ms for trial in trials])),
        "silent_within_two_frames": sum(t.silent_ms <= two_frames_ms for t in trials),
        "rest_within_two_frames": sum(trial.rest_ms <= two_frames_ms for trial in opened),
        "empty_places": sum(trial.empty_places for trial in trials),
        "rest_after_pictures": _counts([trial.moving_pictures for trial in opened]),
        "old_pictures_beyond_recall": _counts(old_pictures) if old_pictures else None,
        "old_packets_after_told": None if None in old else sum(n or 0 for n in old),
        "disagreements_of_headers_and_pixels": (
            None if None in disagreements else sum(n or 0 for n in disagreements)
        ),
        "trials": [{k: _rounded(v) for k, v in asdict(trial).items()} for trial in trials],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _counts(values: Sequence[int]) -> dict[str, int]:
    return {str(value): values.count(value) for value in sorted(set(values))}


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The figures of both transports, or of one."""
    aiortc_overrides.apply()
    arguments = ["--backend", options.backend, "--model", options.model, "--log-level", "warning"]
    arguments += ["--max-sessions", str(options.beside + 2)]
    if options.hop_frames:
        arguments += ["--hop-frames", str(options.hop_frames)]
    os.environ["LIPWIRE_CALIBRATE"] = "false"
    clip = BUNDLED_AVATARS / options.avatar
    mouth = RestingMouth(clip)
    server, address, _ = await start_server(arguments, stock=False)
    figures: dict[str, Any] = {}
    try:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
            for _ in range(options.beside):
                await stack.enter_async_context(_speaking(address, options.avatar))
            for case in options.transport or CASES:
                before = await read_metrics(client, address)
                dice, strips = random.Random(options.seed), Strips(options.pictures, case)
                live = case == "live"
                transport: Transport = "websocket" if case == "websocket" else "webrtc"
                camera = clip / "clip.mp4" if live else None
                async with AsyncExitStack() as calling:
                    opening = partial(open_line, transport, address, options.avatar, camera)
                    line = await _admitted(calling, opening)
                    if live:
                        found = await run_live_trials(line, options.interrupts, dice, strips)
                    else:
                        found = await run_trials(line, mouth, options.interrupts, dice, strips)
                found["server_rest"] = _stage_rest(before, await read_metrics(client, address))
                figures[case] = found
    finally:
        server.terminate()
        await server.wait()
    told = {"avatar": options.avatar, "backend": options.backend, "calls_beside": options.beside}
    return {**told, **figures}


async def _admitted(
    stack: AsyncExitStack, opening: Callable[[], AbstractAsyncContextManager[Line]]
) -> Line:
    """A call, as soon as the server takes it: a busy machine closes admission for a while.

    Raises:
        CallRefused: it does not for ADMITTED_S.
    """
    until = time.monotonic() + ADMITTED_S
    while True:
        try:
            return await stack.enter_async_context(opening())
        except CallRefused as error:
            if time.monotonic() > until:
                raise
            await asyncio.sleep(error.retry_after_s or 1.0)


def _stage_rest(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """The server's stage `rest` between two looks: how often, its mean, and counts by bound."""

    def grown(kind: str, labels: str = "") -> float:
        name = f'lipwire_stage_seconds_{kind}{{{labels}stage="rest"}}'
        return after[name] - before.get(name, 0.0)

    count = grown("count")
    within = {f"within_{ms}_ms": grown("bucket", f'le="{ms / 1000}",') for ms in (40, 60, 80, 120)}
    return {"count": count, "mean_ms": round(1000 * grown("sum") / max(count, 1.0), 1), **within}


@asynccontextmanager
async def _speaking(address: str, avatar: str) -> AsyncIterator[None]:
    """A call over a WebSocket that speaks without a pause, for the time of a `with` block."""

    async def speak(line: Line) -> None:
        speech = lively_speech()
        while True:
            await line.say(speech)
            line.log = Log()

    async with open_line("websocket", address, avatar) as line:
        speaking = asyncio.create_task(speak(line))
        try:
            yield
        finally:
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.barge_in", description=__doc__)
    parser.add_argument("--transport", action="append", choices=CASES)
    parser.add_argument("--interrupts", type=int, default=40, help="over each transport (40)")
    parser.add_argument("--beside", type=int, default=0, help="calls that speak meanwhile (0)")
    parser.add_argument("--avatar", default="anna", help="a bundled one (anna)")
    parser.add_argument("--hop-frames", type=int, help="new frames a hop (the server's choice)")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=Path, help="put pictures around interrupts here")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    circumstances = asdict(here("python -m benchmarks.barge_in", given))
    figures = asyncio.run(measure(options))
    circumstances["load_average"] = round(os.getloadavg()[1], 1)
    text = json.dumps({"circumstances": circumstances, **figures}, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
