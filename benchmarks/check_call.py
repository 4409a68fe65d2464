"""Whether a running server gives a caller moving lips: one call from outside, and what came of it.

python -m benchmarks.check_call http://localhost:8080 --token TOKEN
python -m benchmarks.check_call https://lips.example.org --token TOKEN --relay

Prints a line of JSON; the exit status is 1 where no picture with generated lips came. `--relay`
goes through the TURN servers that the server names, and through nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import httpx
import numpy as np
import numpy.typing as npt
from aiortc import RTCConfiguration, RTCIceServer
from aiortc.rtcconfiguration import RTCIceTransportPolicy

from server.client.errors import CallError
from server.client.webrtc_call import open_call
from server.client.webrtc_connection import ReceivedPicture
from server.protocol import Stats

SOUND_HZ = 48_000
VOICE_HZ = 120  # of the buzz
SYLLABLES_HZ = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call showed.

    Attributes:
        pictures: received.
        first_picture_s: from the offer.
        synced: largest share of generated mouth in one second, 0 to 1.
        server_latency_p95_ms: of the last report.
        candidates: kinds of address that the caller offered, "host", "srflx" or "relay".
    """

    pictures: int
    first_picture_s: float | None
    synced: float
    server_latency_p95_ms: float | None
    late_hops: int
    backend: str
    candidates: list[str]


def babble(seconds: float) -> npt.NDArray[np.int16]:
    """A buzz in syllables, [n] at 48 kHz: it sounds enough like speech to open a mouth."""
    time_s = np.arange(round(seconds * SOUND_HZ)) / SOUND_HZ
    overtones = np.arange(1, 30)
    buzz = sum(np.sin(2 * np.pi * VOICE_HZ * n * time_s) / n for n in overtones)
    syllables = np.sin(np.pi * SYLLABLES_HZ * time_s) ** 2
    return np.asarray(6000 * buzz * syllables, np.int16)


async def check_call(
    url: str, token: str | None, avatar: str, seconds: float, *, relay: bool = False
) -> Outcome:
    """Calls, babbles for so long, and hangs up.

    Raises:
        CallError: the server refused, or the call broke.
        httpx.HTTPError: the server cannot be reached.
    """
    headers = {"authorization": f"Bearer {token}"} if token else {}
    configuration = await _relay_only(url, headers) if relay else None
    pictures, first_s, synced = 0, None, 0.0
    async with open_call(url, avatar=avatar, headers=headers, configuration=configuration) as call:
        saying = asyncio.create_task(call.say(babble(seconds)))
        try:
            async for event in call:
                if isinstance(event, ReceivedPicture):
                    pictures += 1
                    first_s = first_s or time.monotonic() - call.called_at
                elif isinstance(event, Stats):
                    synced = max(synced, event.synced)
                    if saying.done():
                        break
        finally:
            saying.cancel()
            await asyncio.gather(saying, return_exceptions=True)
        sdp = call.connection.rtc.localDescription.sdp
    stats = call.stats
    return Outcome(
        pictures,
        None if first_s is None else round(first_s, 3),
        round(synced, 3),
        None if stats is None else stats.server_latency_ms.p95,
        0 if stats is None else stats.late_hops,
        "" if stats is None else stats.backend,
        sorted({line.split()[7] for line in sdp.splitlines() if line.startswith("a=candidate")}),
    )


async def _relay_only(url: str, headers: dict[str, str]) -> RTCConfiguration:
    async with httpx.AsyncClient(headers=headers) as client:
        answer = (await client.get(f"{url}/v1/ice-servers")).raise_for_status().json()
    return RTCConfiguration(
        iceServers=[RTCIceServer(**server) for server in answer["ice_servers"]],
        iceTransportPolicy=RTCIceTransportPolicy.RELAY,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one call; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("url")
    parser.add_argument("--token", help="with the scope `call`")
    parser.add_argument("--avatar", default="anna")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--relay", action="store_true", help="by TURN only")
    given = parser.parse_args(argv)
    try:
        outcome = asyncio.run(
            check_call(given.url, given.token, given.avatar, given.seconds, relay=given.relay)
        )
    except (CallError, httpx.HTTPError) as error:
        print(f"no call: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(json.dumps(asdict(outcome)))  # noqa: T201
    return 0 if outcome.pictures and outcome.synced > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
