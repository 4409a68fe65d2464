"""How fast an interrupt silences a call and rests its mouth, measured at the receiver.

    python -m benchmarks.barge_in --json barge_in.json
    python -m benchmarks.barge_in --transport webrtc --interrupts 60

A server is started as its user starts it, and an avatar says held-out speech, over which a faint
tone lies so that every sample of it can be heard. At a random moment of it the client interrupts.
Times count from the sending of the interrupt: until the last sample of the old utterance that is
audible, as a player would play it, and until the first picture from which on the mouth rests.
That is judged by pixels (`benchmarks.resting_mouth`); over a WebSocket the generation in the
packets' headers is counted beside it, and must agree.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np

from benchmarks.latency import Spread, start_server
from benchmarks.quality.material import load_speeches
from benchmarks.report import here
from benchmarks.resting_mouth import Judge, RestingMouth
from engine.media import FPS, FRAME_SAMPLES, U8
from server import aiortc_overrides
from server.av_frames import mono_from_frame
from server.client import socket_call, webrtc_call
from server.client.capture import I16
from server.client.webrtc_connection import ReceivedPicture, ReceivedSound
from server.config import BUNDLED_AVATARS
from server.media_clock import TICK_HZ, TICKS_PER_SAMPLE
from server.protocol import InterruptedMessage
from server.wire import Packet, PacketType

Transport = Literal["websocket", "webrtc"]

FRAME_US = 1_000_000 // FPS
TONE_HZ, TONE_PEAK = 3000, 500  # -36 dBFS
OPENING, OPEN = 0, 0.15  # column of the mouth's truth, and from where on lips are apart
AUDIBLE = 100  # of int16: -50 dBFS
SETTLE_S = 4.0  # connecting, and the resting pictures that the judge learns from
RESTS_S = 2.0  # the last of them
SPOKEN_S = (1.0, 4.0)  # how much is heard before an interrupt
WATCH_S = 1.5  # after it
ESTABLISHED_S = 0.5  # of speech, until the mouth is sure to speak


@dataclass(frozen=True, slots=True)
class HeardBlock:
    """Sound that could be played from `at` on: int16 [n] at 48 kHz."""

    at: float
    samples: I16
    generation: int | None


@dataclass(frozen=True, slots=True)
class SeenPicture:
    """A picture that could be shown at `at`: its place on media time and its luma, or a JPEG."""

    at: float
    frame: int
    picture: U8 | bytes
    generation: int | None

    def luma(self) -> U8:
        """uint8 [h, w], limited range."""
        if isinstance(self.picture, bytes):
            bgr = cv2.imdecode(np.frombuffer(self.picture, np.uint8), cv2.IMREAD_COLOR)
            assert bgr is not None
            return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)[: len(bgr)], np.uint8)
        return self.picture


@dataclass(slots=True)
class Log:
    """What came back, in order, and when interrupts were said to be in force."""

    sound: list[HeardBlock] = field(default_factory=list)
    pictures: list[SeenPicture] = field(default_factory=list)
    told: list[float] = field(default_factory=list)


class Line(Protocol):
    """A call over one of the transports."""

    log: Log

    async def say(self, samples: I16) -> bool: ...

    async def interrupt(self) -> None: ...


class SocketLine:
    """A call over a WebSocket."""

    def __init__(self, call: socket_call.SocketCall) -> None:
        self.log = Log()
        self._call = call

    async def say(self, samples: I16) -> bool:
        return await self._call.say(samples)

    async def interrupt(self) -> None:
        await self._call.interrupt()

    async def read(self) -> None:
        async for event in self._call:
            now = time.monotonic()
            if isinstance(event, InterruptedMessage):
                self.log.told.append(now)
            elif isinstance(event, Packet) and event.type is PacketType.AUDIO:
                samples = np.frombuffer(event.payload, "<i2").astype(np.int16)
                self.log.sound.append(HeardBlock(now, samples, event.generation))
            elif isinstance(event, Packet):
                frame = event.pts_us // FRAME_US
                self.log.pictures.append(SeenPicture(now, frame, event.payload, event.generation))


class WebRtcLine:
    """A call over WebRTC."""

    def __init__(self, call: webrtc_call.WebRtcCall) -> None:
        self.log = Log()
        self._call = call

    async def say(self, samples: I16) -> bool:
        return await self._call.say(samples)

    async def interrupt(self) -> None:
        await self._call.interrupt()

    async def read(self) -> None:
        async for event in self._call:
            if isinstance(event, InterruptedMessage):
                self.log.told.append(time.monotonic())
            elif isinstance(event, ReceivedSound):
                block = HeardBlock(event.arrived, mono_from_frame(event.frame), None)
                self.log.sound.append(block)
            elif isinstance(event, ReceivedPicture) and event.pts_us is not None:
                frame = round(event.pts_us / FRAME_US)
                luma = np.asarray(event.frame.to_ndarray(), np.uint8)[: event.frame.height]
                self.log.pictures.append(SeenPicture(event.arrived, frame, luma, None))


@asynccontextmanager
async def open_line(transport: Transport, url: str, avatar: str) -> AsyncIterator[Line]:
    """A call that is read as it comes."""
    line: SocketLine | WebRtcLine
    if transport == "websocket":
        async with socket_call.open_call(url, avatar=avatar) as call:
            line = SocketLine(call)
            async with _reading(line):
                yield line
    else:
        async with webrtc_call.open_call(url, avatar=avatar) as rtc_call:
            line = WebRtcLine(rtc_call)
            async with _reading(line):
                yield line


@asynccontextmanager
async def _reading(line: SocketLine | WebRtcLine) -> AsyncIterator[None]:
    reading = asyncio.create_task(line.read())
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


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
        disagreements: pictures of the new generation whose mouth does not rest, without the first,
            which is half way.
    """

    open: bool
    told_ms: float
    silent_ms: float
    rest_ms: float
    moving_pictures: int
    moving_after_told: int
    old_packets_after_told: int | None
    disagreements: int | None


def judge_trial(log: Log, sent: float, distances: Sequence[float], threshold: float) -> Trial:
    """What the log shows of an interrupt that was sent at `sent`.

    Args:
        distances: of the log's pictures from rest.
    """
    told = next(at for at in log.told if at >= sent)
    heard = sent
    for block in log.sound:
        loud = np.flatnonzero(np.abs(block.samples.astype(np.int32)) > AUDIBLE)
        if len(loud):
            heard = max(heard, block.at + float(loud[-1] + 1) / TICK_HZ)
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
    disagreements: int | None = None
    if generations[0] is not None:
        newest = max(generation or 0 for generation in generations)
        packets: list[HeardBlock | SeenPicture] = [*log.sound, *log.pictures]
        old = sum(item.at > told and (item.generation or 0) < newest for item in packets)
        new = [place for place, generation in enumerate(generations) if generation == newest]
        disagreements = sum(place in moving for place in new[1:])
    before = distances[len(log.pictures) - len(after) - 1]
    return Trial(
        open=before > threshold,
        told_ms=1000 * (told - sent),
        silent_ms=1000 * (heard - sent),
        rest_ms=1000 * (rest_at - sent),
        moving_pictures=len(moving),
        moving_after_told=sum(after[place][0].at > told for place in moving),
        old_packets_after_told=old,
        disagreements=disagreements,
    )


async def run_trials(
    line: Line, mouth: RestingMouth, count: int, dice: random.Random
) -> tuple[list[Trial], Judge]:
    """Interrupts one call again and again."""
    speech = lively_speech()
    await asyncio.sleep(SETTLE_S)
    resting = _distances(mouth, [p for p in line.log.pictures if p.at > time.monotonic() - RESTS_S])
    line.log = Log()
    said: list[tuple[Log, float, list[float]]] = []
    speaking: list[float] = []
    for number in range(count):
        saying = asyncio.create_task(line.say(np.roll(speech, -dice.randrange(len(speech)))))
        began = await _until_heard(line)
        await asyncio.sleep(dice.uniform(*SPOKEN_S))
        sent = time.monotonic()
        await line.interrupt()
        await asyncio.sleep(WATCH_S)
        await saying
        log, line.log = line.log, Log()
        distances = await asyncio.to_thread(_distances, mouth, log.pictures)
        said.append((log, sent, distances))
        speaking += [
            distance
            for picture, distance in zip(log.pictures, distances, strict=True)
            if began + ESTABLISHED_S < picture.at < sent
        ]
        sys.stderr.write(f"\r{number + 1}/{count}")
        for picture in log.pictures:
            object.__setattr__(picture, "picture", b"")
    judge = Judge.of(resting, speaking)
    trials = [judge_trial(log, sent, distances, judge.threshold) for log, sent, distances in said]
    return trials, judge


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
    return {
        "interrupts": len(trials),
        "silent_ms": asdict(Spread.of([trial.silent_ms for trial in trials])),
        "mouth_open": len(opened),
        "rest_ms": asdict(Spread.of([trial.rest_ms for trial in opened])),
        "told_ms": asdict(Spread.of([trial.told_ms for trial in trials])),
        "silent_within_two_frames": sum(t.silent_ms <= two_frames_ms for t in trials),
        "rest_after_pictures": _counts([trial.moving_pictures for trial in opened]),
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
    if options.hop_frames:
        arguments += ["--hop-frames", str(options.hop_frames)]
    os.environ["LIPWIRE_CALIBRATE"] = "false"
    mouth = RestingMouth(BUNDLED_AVATARS / options.avatar)
    server, address, _ = await start_server(arguments, stock=False)
    figures: dict[str, Any] = {}
    try:
        for transport in options.transport or ("websocket", "webrtc"):
            async with open_line(transport, address, options.avatar) as line:
                dice = random.Random(options.seed)
                trials, judge = await run_trials(line, mouth, options.interrupts, dice)
            figures[transport] = {"judge": judge.describe(), **summary(trials)}
    finally:
        server.terminate()
        await server.wait()
    return {"avatar": options.avatar, "backend": options.backend, **figures}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.barge_in", description=__doc__)
    parser.add_argument("--transport", action="append", choices=["websocket", "webrtc"])
    parser.add_argument("--interrupts", type=int, default=40, help="over each transport (40)")
    parser.add_argument("--avatar", default="anna", help="a bundled one (anna)")
    parser.add_argument("--hop-frames", type=int, help="new frames a hop (the server's choice)")
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--seed", type=int, default=0)
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
