"""An echo: answers one call and sends back what comes, frame by frame, as soon as it is decoded.

Run by `benchmarks.aiortc_overrides` as a process of its own: reads an offer as a line of JSON from
standard input, writes the answer, and ends at end of file.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from typing import Any

from aioice import Connection
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from av import AudioFrame

from server.webrtc import aiortc_overrides


class Echo(MediaStreamTrack):
    """Another track's frames with their own timestamps."""

    def __init__(self, source: MediaStreamTrack) -> None:
        super().__init__()
        self.kind = source.kind
        self._source = source

    async def recv(self) -> Any:
        frame: Any = await self._source.recv()
        if isinstance(frame, AudioFrame):
            return frame
        copy = frame.reformat(format="yuv420p")
        copy.pts, copy.time_base = frame.pts, frame.time_base
        return copy


def lose_packets(share: float, seed: int) -> None:
    """Drops a share of what this process sends over ICE: media, reports and handshakes alike."""
    dice = random.Random(seed)
    send = Connection.send

    async def send_or_lose(self: Connection, data: bytes) -> None:
        if dice.random() >= share:
            await send(self, data)

    Connection.send = send_or_lose  # type: ignore[method-assign]


async def answer_one_call() -> None:
    """Answers the offer on standard input and echoes until that ends."""
    loop = asyncio.get_running_loop()
    offer = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.on("track", lambda track: connection.addTrack(Echo(track)))
    await connection.setRemoteDescription(RTCSessionDescription(offer["sdp"], "offer"))
    await connection.setLocalDescription(await connection.createAnswer())
    sys.stdout.write(json.dumps({"sdp": connection.localDescription.sdp}) + "\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.readline)
    await connection.close()


if __name__ == "__main__":
    if sys.argv[1] == "patched":
        aiortc_overrides.apply()
    lose_packets(float(sys.argv[2]), seed=2)
    asyncio.run(answer_one_call())
