"""WebSocket conformance of `GET /v1/media`, in the manner of the Autobahn test suite.

    python -m benchmarks.websocket_conformance --json websocket_conformance.json

A server is started as its user starts it; each case is a call of its own over a raw socket (see
`websocket_cases`), and handshakes are held against what HTTP must answer. Afterwards the server
must hold what it held before: tasks, descriptors, memory in use, calls, and an empty log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from benchmarks.raw_websocket import (
    Answer,
    Opcode,
    RawWebSocket,
    ReceivedFrame,
    close_frame,
    frame,
    handshake,
)
from benchmarks.report import here
from benchmarks.server_watch import ProcessReading, WatchedServer, watched_server
from benchmarks.websocket_cases import NO_CODE, OPEN, Case, cases

TIMEOUT_S = 10.0
WARM_CASES = 20  # until everything that is opened once has been
START = b'{"type":"session.start","audio":"pcm16","rate_hz":16000,"video":"jpeg"}'
PATH = "/v1/media?mode=avatar&avatar="
DEFLATE = "permessage-deflate; client_max_window_bits"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of one case.

    Attributes:
        problem: empty where it passed.
    """

    section: str
    name: str
    problem: str


class Listener:
    """Reads what the server sends and keeps what a case asks for."""

    def __init__(self, socket: RawWebSocket) -> None:
        self._socket = socket
        self.answers: list[str | bytes] = []
        self.closed_with: int | None = None
        self.ended = False

    async def step(self) -> None:
        """Takes one frame."""
        received = await self._socket.read_frame()
        if received is None:
            self.ended = True
            return
        self._take(received)

    def _take(self, received: ReceivedFrame) -> None:
        match received.opcode:
            case Opcode.TEXT:
                message = json.loads(received.payload)
                if message["type"] == "pong":
                    self.answers.append(str(message["t"]))
                elif message["type"] == "error" and not message["fatal"]:
                    self.answers.append(f"error:{message['code']}")
            case Opcode.PONG:
                self.answers.append(received.payload)
            case Opcode.CLOSE:
                coded = received.payload[:2]
                self.closed_with = struct.unpack(">H", coded)[0] if coded else NO_CODE


async def begin(address: str, avatar: str, receive_bytes: int | None = None) -> RawWebSocket:
    """A session that is ready."""
    socket = await RawWebSocket.connect(address, receive_bytes)
    host = address.rsplit("/", 1)[1]
    await socket.send(handshake(PATH + avatar, host))
    answer = await socket.read_answer()
    if answer.status != 101:
        raise RuntimeError(f"expected 101 to a good handshake, got {answer.status}")
    await socket.send(frame(Opcode.TEXT, START))
    while (received := await socket.read_frame()) is not None:
        if received.opcode == Opcode.TEXT and b"session.ready" in received.payload:
            return socket
    raise RuntimeError("expected session.ready, got the end of the connection")


async def run_case(address: str, avatar: str, case: Case) -> Verdict:
    """Sends what the case sends and holds what comes against what must."""
    socket = await begin(address, avatar)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            problem = await _problem(socket, case)
    except TimeoutError:
        problem = f"nothing came of it within {TIMEOUT_S:.0f} s"
    except ValueError as error:
        problem = str(error)
    finally:
        await socket.close()
    return Verdict(case.section, case.name, problem)


async def _problem(socket: RawWebSocket, case: Case) -> str:
    listener = Listener(socket)
    sending = asyncio.create_task(socket.send(case.sent, bytewise=case.bytewise))
    wanted = list(case.answers)
    closes = case.closes
    if closes is OPEN:
        while len(listener.answers) < len(wanted) and not listener.ended:
            await listener.step()
        if listener.closed_with is not None or listener.ended:
            return f"closed with {listener.closed_with}, answers {listener.answers!r:.100}"
        await sending
        await socket.send(close_frame(1000))
        closes = frozenset({1000})
    while not listener.ended:
        await listener.step()
    await asyncio.gather(sending, return_exceptions=True)
    if listener.closed_with not in closes:
        return f"expected to be closed with {sorted(closes)}, got {listener.closed_with}"
    # Valid messages in front of a fault may be dropped with it, but nothing else may be answered.
    dropped = case.closes is not OPEN and not listener.answers
    if listener.answers != wanted and not dropped and not _is_flood(case):
        return f"expected {wanted!r:.100}, got {listener.answers!r:.100}"
    return ""


def _is_flood(case: Case) -> bool:
    return 1008 in case.closes and not case.answers


def handshakes(avatar: str, host: str) -> list[tuple[str, bytes, frozenset[int], bool]]:
    """Name, request, statuses that may answer it, and whether it is sent bytewise."""

    def ask(path: str = PATH + avatar, **changes: Any) -> bytes:
        return handshake(path, host, **changes)

    def header(name: str, value: str) -> bytes:
        return ask(changed={name: value})

    yes, bad = frozenset({101}), frozenset({400, 403, 404, 405, 426})
    protocol, key = "Sec-WebSocket-Protocol", "Sec-WebSocket-Key"
    return [
        ("as it should be", ask(), yes, False),
        ("bytewise", ask(), yes, True),
        ("one of several subprotocols", header(protocol, "chat, lipwire.v1"), yes, False),
        ("compression is offered", header("Sec-WebSocket-Extensions", DEFLATE), yes, False),
        ("an unknown extension", header("Sec-WebSocket-Extensions", "x-none; a=1"), yes, False),
        (
            "Connection: keep-alive, Upgrade",
            header("Connection", "keep-alive, Upgrade"),
            yes,
            False,
        ),
        ("Upgrade: WebSocket", header("Upgrade", "WebSocket"), yes, False),
        ("no subprotocol", ask(without=[protocol]), frozenset({400}), False),
        ("another subprotocol", header(protocol, "chat"), frozenset({400}), False),
        ("no key", ask(without=[key]), bad, False),
        ("a short key", header(key, "c2hvcnQ="), bad, False),
        ("a key that is no base64", header(key, "!" * 24), bad, False),
        ("no version", ask(without=["Sec-WebSocket-Version"]), bad, False),
        ("version 8", header("Sec-WebSocket-Version", "8"), frozenset({400, 426}), False),
        ("no Upgrade", ask(without=["Upgrade"]), bad, False),
        ("no Connection", ask(without=["Connection"]), bad, False),
        ("Upgrade: h2c", header("Upgrade", "h2c"), bad, False),
        ("POST", ask(method="POST"), bad, False),
        ("a malformed extension", header("Sec-WebSocket-Extensions", ";;="), bad | yes, False),
        (
            "a page from elsewhere",
            header("Origin", "https://evil.example"),
            frozenset({403}),
            False,
        ),
        ("no such path", ask("/v1/nothing"), frozenset({403, 404}), False),
        ("no such avatar", ask(PATH + "nobody"), frozenset({404}), False),
        ("a header of 10,000 bytes", header("X-Long", "x" * 10_000), bad | {431}, False),
        ("150 headers", ask(changed={f"X-{n}": "1" for n in range(150)}), bad | {431}, False),
        (
            "a header of 200,000 bytes",
            header("X-Long", "x" * 200_000),
            frozenset({400, 431}),
            False,
        ),
    ]


async def run_handshake(
    address: str, name: str, request: bytes, statuses: frozenset[int], *, bytewise: bool
) -> Verdict:
    """Asks, and holds the answer against what it may be."""
    socket = await RawWebSocket.connect(address)
    answer: Answer | None = None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await socket.send(request, bytewise=bytewise)
            answer = await socket.read_answer()
    except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
        pass
    finally:
        await socket.close()
    if answer is None:
        return Verdict("14 handshake", name, "no answer")
    problem = ""
    if answer.status not in statuses:
        problem = f"expected {sorted(statuses)}, got {answer.status}"
    elif answer.status == 101 and "sec-websocket-extensions" in answer.headers:
        problem = "expected no extension to be taken"
    elif answer.status == 426 and answer.headers.get("sec-websocket-version") != "13":
        problem = "expected to be told of version 13"
    return Verdict("14 handshake", name, problem)


@dataclass(frozen=True, slots=True)
class Held:
    """What the server holds while no call is there."""

    tasks: int
    descriptors: int
    allocated_mb: float | None
    anonymous_mb: float

    @classmethod
    async def now(cls, server: WatchedServer, client: httpx.AsyncClient) -> Held:
        async with asyncio.timeout(60):
            while (await client.get("/v1/status")).json()["sessions"]["active"]:
                await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)  # until the last connections are closed on both sides
        told, reading = await server.held(), ProcessReading.of(server.pid)
        allocator = told["allocator"]
        used = None if allocator is None else allocator["used"]
        return cls(told["tasks"], reading.descriptors, used, reading.anonymous_mb)


async def measure(avatar: str, rounds: int) -> dict[str, Any]:
    """The verdicts of all cases, and what the server held before and after."""
    with tempfile.TemporaryDirectory() as name:
        settings = Path(name) / "settings.toml"
        settings.write_text("client_sessions = 0\nclient_offers_per_minute = 0\n", encoding="utf-8")
        arguments = ["--backend", "passthrough", "--no-calibration", "--max-sessions", "4"]
        arguments += ["--log-level", "warning", "--config", str(settings)]
        async with (
            watched_server(arguments, Path(name)) as server,
            httpx.AsyncClient(base_url=server.address, timeout=30) as client,
        ):
            address, host = server.address, server.address.rsplit("/", 1)[1]
            for case in list(cases())[:WARM_CASES]:
                await run_case(address, avatar, case)
            held = [await Held.now(server, client)]
            for _ in range(rounds):
                verdicts = [await run_case(address, avatar, case) for case in cases()]
                for title, request, statuses, bytewise in handshakes(avatar, host):
                    verdicts.append(
                        await run_handshake(address, title, request, statuses, bytewise=bytewise)
                    )
                held.append(await Held.now(server, client))
            log = server.complaints()
    sections = Counter(verdict.section for verdict in verdicts)
    passed = Counter(verdict.section for verdict in verdicts if not verdict.problem)
    return {
        "cases": len(verdicts),
        "passed": passed.total(),
        "sections": {s: f"{passed[s]} of {count}" for s, count in sections.items()},
        "failed": [f"{v.section}: {v.name}: {v.problem}" for v in verdicts if v.problem],
        "held": [
            {
                "tasks": now.tasks,
                "descriptors": now.descriptors,
                "allocated_mb": now.allocated_mb,
                "anonymous_mb": now.anonymous_mb,
            }
            for now in held
        ],
        "log": log[:20],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 where a case failed."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.websocket_conformance", description=__doc__
    )
    parser.add_argument("--avatar", default="anna")
    parser.add_argument("--rounds", type=int, default=1, help="of all cases, to see growth")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    circumstances = here("python -m benchmarks.websocket_conformance", given).to_dict()
    figures = {**circumstances, **asyncio.run(measure(options.avatar, options.rounds))}
    text = json.dumps(figures, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    errors = [line for line in figures["log"] if " ERROR " in line]
    return int(bool(figures["failed"] or errors))


if __name__ == "__main__":
    sys.exit(main())
