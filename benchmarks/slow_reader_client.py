"""A client that can be told to misbehave; `benchmarks.slow_readers` runs it as a process.

Says "ready" when its first picture is there. On standard input, `deaf`: it reads nothing more but
goes on sending; `slow`: it reads less of its WebSocket than comes; `closed`: it says as JSON what
it got, and hangs up.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import aioice.ice

from benchmarks.call_phases import steady_noise
from server.client.errors import CallEnded
from server.client.socket_call import SocketCall
from server.client.socket_call import open_call as open_socket_call
from server.client.webrtc_call import WebRtcCall
from server.client.webrtc_call import open_call as open_webrtc_call
from server.client.webrtc_connection import ReceivedPicture, ReceivedSound
from server.webrtc import aiortc_overrides
from server.websocket.wire import US_PER_S, Packet, PacketType

WORDS = ("deaf", "slow")
SPEECH_S = 120.0
BLOCK_US = 20_000
SLOW_BYTES, SLOW_PAUSE_S = 20_000, 0.2  # the kernel doubles it: 200 kB a second


@dataclass(slots=True)
class Got:
    """What came.

    Attributes:
        missing_sound_ms: whose place stayed empty between two blocks.
    """

    pictures: int = 0
    blocks: int = 0
    missing_sound_ms: float = 0.0
    _next_us: int | None = None

    def take(self, event: object) -> None:
        """Counts what has come."""
        match event:
            case ReceivedPicture() | Packet(type=PacketType.VIDEO):
                self.pictures += 1
            case ReceivedSound():
                self._hear(event.timestamp * US_PER_S // 48_000)
            case Packet(type=PacketType.AUDIO):
                self._hear(event.pts_us)

    def _hear(self, pts_us: int) -> None:
        if self._next_us is not None:
            self.missing_sound_ms += max(pts_us - self._next_us, 0) / 1000
        self._next_us = pts_us + BLOCK_US
        self.blocks += 1


async def _read(call: SocketCall | WebRtcCall, got: Got) -> None:
    said = False
    with suppress(CallEnded):
        async for event in call:
            got.take(event)
            if got.pictures and not said:
                said = True
                _say("ready")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _go_deaf(call: SocketCall | WebRtcCall) -> None:
    """Nothing that comes is read any more."""
    if isinstance(call, SocketCall):
        call._connection.transport.pause_reading()
    else:
        aioice.ice.StunProtocol.datagram_received = _ignore  # type: ignore[method-assign]


async def _be_slow(call: SocketCall) -> None:
    """Takes one buffer of the kernel's now and then."""
    transport = call._connection.transport
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BYTES)
    while True:
        transport.pause_reading()
        await asyncio.sleep(SLOW_PAUSE_S)
        transport.resume_reading()
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # one turn of the loop reads


def _ignore(self: aioice.ice.StunProtocol, data: Any, addr: Any) -> None:
    """In place of what aioice does with a packet."""


async def be(address: str, transport: str, avatar: str) -> None:
    """Calls, and does what it is told."""
    aiortc_overrides.apply()
    loop, got = asyncio.get_running_loop(), Got()
    opened = (
        open_socket_call(address, avatar=avatar)
        if transport == "websocket"
        else open_webrtc_call(address, avatar=avatar, resume=False)
    )
    async with opened as call:
        work = [
            asyncio.create_task(_read(call, got)),
            asyncio.create_task(call.say(steady_noise(SPEECH_S))),
        ]
        while (word := (await loop.run_in_executor(None, sys.stdin.readline)).strip()) in WORDS:
            if word == "deaf":
                _go_deaf(call)
            elif isinstance(call, SocketCall):
                work.append(asyncio.create_task(_be_slow(call)))
        if word == "closed":
            told = {name: value for name, value in asdict(got).items() if name[0] != "_"}
            _say(json.dumps(told))
            with suppress(CallEnded):
                await call.hang_up()
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(be(*sys.argv[1:4]))
