"""A million binary messages against the header and what stands behind it.

    python -m benchmarks.fuzz_packets --count 1000000 --json fuzz_packets.json
    python -m benchmarks.fuzz_packets --atheris        # guided by coverage (pip install atheris)

Every message goes through `SocketPeer` as it comes from a socket, into the real codecs, speech
queue, timeline and playout of a call in avatar and one in live mode; only the engine and the
network are left out, and the clock is turned by hand: 10 ms a message. Messages are random,
truncated, or valid ones with changed bits, fields, payloads and lengths; between them are
interrupts. Each must be taken or refused by an `error` with a known code. What waits must stay
within its bounds, and media time may not run away from the clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import numpy as np
from av import VideoFrame
from fastapi import WebSocket
from numpy.typing import NDArray

from benchmarks.observed_server import allocator_mb
from benchmarks.report import here
from server.engine_link.host import EngineHost
from server.engine_link.messages import Mode
from server.logs import SessionLog
from server.media import session_media
from server.media.av_frames import VIDEO_TIME_BASE
from server.media.media_clock import TICK_HZ, TICKS_PER_MS
from server.media.session_media import MediaLimits, SessionMedia
from server.metrics.counters import Metrics
from server.protocol import ErrorMessage, ProtocolError, StartMessage
from server.websocket import socket_peer
from server.websocket.socket_codecs import H264Encoder, PictureDecoder, encode_jpeg
from server.websocket.socket_peer import SocketPeer
from server.websocket.wire import HEADER, Codec, Packet, PacketType, decode_packet, encode_packet

STEP = 10 * TICKS_PER_MS  # the clock's, a message
WINDOW = TICK_HZ // 2
AHEAD = 3 * TICK_HZ  # media time before the clock's, at most, and
FASTER = 0.0101  # by this part of the time
LARGEST_SOUND = 16 * TICK_HZ  # that one message may add
DECODED_SHARE = 0.2  # of the pictures: what a busy machine's decoder gets to
SAMPLES = 10
MODES: tuple[Mode, ...] = ("live", "avatar")
CODES = {"bad_packet", "camera_overrun", "audio_overrun", "not_json", "unknown_type", "bad_field"}
BOUNDARIES = (0, 1, 2, 127, 128, 255, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
LONG_BOUNDARIES = (*BOUNDARIES, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)


class Stream:
    """Stands in for the engine's end: counts the sound that it is given."""

    camera_drops = 0

    def __init__(self) -> None:
        self.sound = 0

    def push_audio(self, samples: np.ndarray) -> None:
        self.sound += len(samples) * 3  # 16 kHz

    def push_video(self, picture: object, sample: int) -> None:
        assert -(2**62) < sample < 2**62, f"a picture at sample {sample}"

    def interrupt(self, generation: int) -> None:
        """Nothing is generated."""

    def close(self) -> None:
        """Nothing was opened."""


class Turned:
    """A clock of ticks that is turned by hand; it begins where no 0 hides a mistake."""

    def __init__(self) -> None:
        self.now = 10**9

    def ticks(self) -> int:
        return self.now

    def seconds(self) -> float:
        return self.now / TICK_HZ


class Target:
    """A call whose socket, engine and clock are held by the fuzzer."""

    def __init__(self, mode: Mode, clock: Turned) -> None:
        self.mode = mode
        self._clock = clock
        self.stream = Stream()
        self.ends: list[str] = []
        host = SimpleNamespace(open_stream=lambda *_: self.stream, ready=None, state="ready")
        log = SessionLog(logging.getLogger(__name__), "fuzz")
        limits = MediaLimits(
            largest=(1280, 720),
            initial_delay=300 * TICKS_PER_MS,
            max_delay=800 * TICKS_PER_MS,
            hop_frames=4,
        )
        self.media = SessionMedia(
            "fuzz", mode, "anna", cast(EngineHost, host), Metrics(), limits, log
        )
        if mode == "avatar":
            self.media.queue_speech(WINDOW, lambda message: self.peer.send(message))
        self.peer = SocketPeer(
            cast(WebSocket, None), StartMessage(), mode, self.media, log, self.ends.append
        )
        self.began = clock.now
        self.media.start()
        self._decoder = PictureDecoder()

    def take(self, data: str | bytes, dice: random.Random) -> str:
        """What came of one message.

        Raises:
            Exception: a fault of ours.
        """
        self._clock.now += STEP
        sound = self.stream.sound
        peer = self.peer
        if isinstance(data, str):
            peer._take(data, None)
        else:
            peer._take(None, data)
        added = self.stream.sound - sound
        assert added <= LARGEST_SOUND, f"one message added {added / TICK_HZ:.1f} s of sound"
        said = "taken"
        while not peer._messages.empty():
            message = peer._messages.get_nowait()
            if isinstance(message, ErrorMessage):
                assert message.code in CODES, message
                said = message.code
        self._decode(dice)
        self.media._tick()
        self._check_bounds()
        return said

    def _decode(self, dice: random.Random) -> None:
        """What the peer's own task would do, on a thread."""
        while not self.peer._camera.empty():
            packet = self.peer._camera.get_nowait()
            if dice.random() > DECODED_SHARE:
                continue
            try:
                frames = self._decoder.decode(packet)
            except ProtocolError as error:
                assert error.code in CODES
                continue
            for frame in frames:
                self.media.push_camera(frame)

    def _check_bounds(self) -> None:
        speech, playout = self.media.speech, self.media._playout
        assert playout is not None
        assert speech is None or 0 <= speech.waiting <= WINDOW
        passed = self._clock.now - self.began
        ahead = self.stream.sound - passed
        assert ahead <= AHEAD + FASTER * passed, (
            f"media time is {ahead / TICK_HZ:.1f} s before the clock"
        )


def valid_packets(dice: random.Random) -> list[bytes]:
    """Packets as clients send them: sound of 10 to 60 ms, pictures of both codecs."""
    i420 = np.random.default_rng(0).integers(16, 235, (72, 64), dtype=np.uint8)
    jpeg, _ = encode_jpeg(_frame(i420, 0))
    encoder = H264Encoder()
    coded = [encoder.encode(_frame(i420, n * 3600), n == 0)
             for n in range(3)]  # fmt: skip
    packets = []
    for number, ms in enumerate((10, 20, 20, 40, 60)):
        payload = dice.randbytes(96 * ms)
        packets.append(
            Packet(PacketType.AUDIO, Codec.PCM16, 0, number, number * 20_000, ms * 1000, payload)
        )
    packets.append(Packet(PacketType.VIDEO, Codec.JPEG, 0, 0, 0, 40_000, jpeg, 1))
    for number, (payload, flags) in enumerate(coded):
        packets.append(
            Packet(PacketType.VIDEO, Codec.H264, 0, number, number * 40_000, 40_000, payload, flags)
        )
    return [encode_packet(packet) for packet in packets]


def _frame(i420: NDArray[np.uint8], pts: int) -> VideoFrame:
    frame = VideoFrame.from_ndarray(i420, format="yuv420p")
    frame.pts, frame.time_base = pts, VIDEO_TIME_BASE
    return frame


class Generator:
    """Messages of all kinds; what the peer's generation is, it is told."""

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self._seeds = valid_packets(dice)
        self._pts_us = 0

    def message(self, generation: int) -> str | bytes:
        """The next message."""
        match self._dice.randrange(16):
            case 0:
                return self._dice.randbytes(self._dice.randrange(80))
            case 1:
                seed = self._dice.choice(self._seeds)
                return seed[: self._dice.randrange(len(seed))]
            case 2:
                return '{"type": "interrupt"}' if self._dice.random() < 0.1 else '{"type":"flush"}'
            case 3 | 4 | 5:
                return self._fields(generation)
            case 6 | 7 | 8:
                return self._sound(generation)
            case _:
                return self._mutated(generation)

    def _fields(self, generation: int) -> bytes:
        """A header of chosen numbers before any payload."""
        pick = self._dice.choice
        header = HEADER.pack(
            pick((1, 1, 1, 0, 2, 255)),
            pick((1, 2, 0, 3, 255)),
            pick((1, 1, 16, 18, 2, 17, 0, 255)),
            pick((0, 0, 1, 2, 128, 255)),
            pick((generation, generation, *BOUNDARIES)),
            pick(BOUNDARIES),
            pick(LONG_BOUNDARIES),
            pick((20_000, 40_000, *BOUNDARIES)),
        )
        return header + self._dice.randbytes(pick((0, 1, 2, 3, 100, 1920, 5760)))

    def _sound(self, generation: int) -> bytes:
        """A good packet of sound at a time that leaps, creeps, stands or goes back."""
        leap_us = self._dice.choice((0, 20_000, 20_000, 500_000, 1_990_000, 2_010_000, -1_000_000))
        self._pts_us = max(self._pts_us + leap_us, 0)
        samples = self._dice.choice((1, 480, 960, 960, 960, 960, 4_800, 24_000))
        lasts_us = samples * 1_000_000 // TICK_HZ
        if not lasts_us:
            return b""
        return encode_packet(
            Packet(
                PacketType.AUDIO, Codec.PCM16, generation, 0, self._pts_us, lasts_us,
                self._dice.randbytes(2 * samples),
            )
        )  # fmt: skip

    def _mutated(self, generation: int) -> bytes:
        """A valid packet with a few changes; half of them below the header."""
        data = bytearray(self._dice.choice(self._seeds))
        struct.pack_into(">I", data, 4, generation)
        for _ in range(self._dice.randrange(1, 5)):
            part = min(HEADER.size, len(data)) if self._dice.random() < 0.5 else len(data)
            at = self._dice.randrange(part)
            match self._dice.randrange(5):
                case 0:
                    data[at : at + 1] = bytes([self._dice.randrange(256)])
                case 1:
                    data[at] ^= 1 << self._dice.randrange(8)
                case 2:
                    del data[at : at + self._dice.randrange(1, 9)]
                case 3:
                    data[at:at] = self._dice.randbytes(self._dice.randrange(1, 9))
                case _:
                    other = self._dice.choice(self._seeds)
                    data[at:] = other[self._dice.randrange(len(other)) :]
            if not data:
                break
        return bytes(data)


def check_header(data: bytes) -> str:
    """What `decode_packet` makes of a message: a packet that encodes to the same bytes, or a code.

    Raises:
        Exception: a fault of ours.
    """
    try:
        packet = decode_packet(data)
    except ProtocolError as error:
        return error.code
    assert encode_packet(packet) == data
    return packet.type.name.lower()


async def fuzz(count: int, seed: int) -> dict[str, Any]:
    """How often each outcome was seen, by mode, and the memory at even distances."""
    with turned(clock := Turned()):
        return await _fuzz(count, random.Random(seed), clock)


async def _fuzz(count: int, dice: random.Random, clock: Turned) -> dict[str, Any]:
    generator = Generator(dice)
    targets = {mode: Target(mode, clock) for mode in MODES}
    outcomes: dict[str, Counter[str]] = {mode: Counter() for mode in (*targets, "header")}
    memory: list[dict[str, float] | None] = []
    for number in range(count):
        mode = MODES[number % 2]
        target = targets[mode]
        message = generator.message(target.media.generation)
        if isinstance(message, bytes):
            outcomes["header"][check_header(message)] += 1
        outcomes[mode][target.take(message, dice)] += 1
        if target.ends:
            outcomes[mode][f"ended: {target.ends[0]}"] += 1
            target.media.close()
            targets[mode] = Target(mode, clock)
        if number % max(count // SAMPLES, 1) == 0:
            memory.append(allocator_mb())
            await asyncio.sleep(0)
    for target in targets.values():
        target.media.close()
    return {
        "messages": count,
        "outcomes": {name: dict(counted.most_common()) for name, counted in outcomes.items()},
        "allocated_mb": [None if now is None else now["used"] for now in memory],
    }


class Unlimited:
    """No rate limit: what it keeps away is to be seen too."""

    def __init__(self, window_ms: int) -> None:
        """As `SocketRate`."""

    def excess(self, text: str | None, data: bytes | None) -> None:
        """Nothing is too much."""


@contextmanager
def turned(clock: Turned) -> Iterator[None]:
    """Calls go by this clock, and without rate limits."""
    with (
        patch.object(session_media, "now_ticks", clock.ticks),
        patch.object(socket_peer, "SocketRate", Unlimited),
    ):
        yield


def run_atheris(count: int, seed: int) -> None:
    """Lets libFuzzer look for inputs that reach new code; does not return."""
    import atheris

    for cls, names in (
        (SocketPeer, ("_take", "_take_packet")),
        (SessionMedia, ("push_sound", "push_speech", "push_camera")),
    ):
        for name in names:
            setattr(cls, name, atheris.instrument_func(getattr(cls, name)))
    atheris.instrument_func(decode_packet)
    dice, clock = random.Random(seed), Turned()
    loop = asyncio.new_event_loop()
    corpus = Path(tempfile.mkdtemp())
    for number, packet in enumerate(valid_packets(dice)):
        (corpus / str(number)).write_bytes(packet)
    targets: dict[Mode, Target] = {}

    async def one(data: bytes) -> None:
        for mode in MODES:
            if mode not in targets or targets[mode].ends:
                targets[mode] = Target(mode, clock)
            targets[mode].take(data, dice)

    def test(data: bytes) -> None:
        check_header(data)
        with turned(clock):
            loop.run_until_complete(one(data))

    atheris.Setup(
        [sys.argv[0], f"-runs={count}", f"-seed={seed + 1}", "-max_len=6000", str(corpus)], test
    )
    atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_packets", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true", help="guided by coverage")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    logging.disable(logging.ERROR)
    if options.atheris:
        run_atheris(options.count, options.seed)
    circumstances = here("python -m benchmarks.fuzz_packets", given).to_dict()
    began = time.process_time()
    figures = {**circumstances, **asyncio.run(fuzz(options.count, options.seed))}
    figures["cpu_s"] = round(time.process_time() - began, 1)
    text = json.dumps(figures, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
