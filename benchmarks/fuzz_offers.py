"""Mutated SDP offers against the whole gateway: no 5xx, no descriptor, call or memory left.

    python -m benchmarks.fuzz_offers --count 10000

Each offer is a real one of aiortc's with one to six lines deleted, doubled, moved, cut, garbled
or taken from a list of hostile values. Calls that are answered all the same are hung up at once.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from benchmarks.caller import an_offer
from benchmarks.report import here
from server.api.app import create_app
from server.api.gateway import Gateway
from server.config import Settings

SETTLED = 200  # offers until everything that is opened once has been
SAMPLES = 10  # of descriptors and memory over the run
HOSTILE = (
    "a=fingerprint:sha-256 " + "00:" * 31 + "00",
    "a=fingerprint:md5 00",
    "a=ice-ufrag:" + "x" * 5000,
    "a=ice-pwd:",
    "a=candidate:1 1 udp 99999999999999999999 256.1.1.1 99999 typ host",
    "a=candidate:1 1 udp 1 :: 0 typ relay raddr",
    "a=rtpmap:96 VP8/0",
    "a=rtpmap:-1 opus/48000/99999999999",
    "a=rtpmap:96",
    "a=fmtp:96 =;;=",
    "a=mid:" + "\\u0000",
    "a=group:BUNDLE",
    "a=group:BUNDLE 0 1 2 3 4 5 6 7 8 9",
    "a=ssrc:4294967296 cname:x",
    "a=extmap:0 urn:none",
    "a=extmap:x",
    "a=setup:holdconn",
    "a=sctp-port:99999",
    "a=max-message-size:-1",
    "a=rtcp-fb:* nack " + "x" * 500,
    "c=IN IP6 ::ffff:999.0.0.1",
    "m=audio 0 UDP/TLS/RTP/SAVPF",
    "m=video 99999 RTP/AVP 96 97",
    "o=- 18446744073709551616 -1 IN IP4 x",
    "t=a b",
    "b=AS:x",
)


def mutate_offer(offer: str, dice: random.Random) -> str:
    """The offer with one to six faults; its first line stays."""
    lines = offer.split("\r\n")
    for _ in range(dice.randrange(1, 7)):
        place = dice.randrange(1, len(lines))
        line = lines[place]
        match dice.randrange(8):
            case 0:
                del lines[place]
            case 1:
                lines.insert(place, lines[dice.randrange(1, len(lines))])
            case 2:
                lines[place] = line[: dice.randrange(2, 40)]
            case 3:
                lines[place] = line.replace(" ", " 9", 1)
            case 4:
                other = dice.randrange(1, len(lines))
                lines[place], lines[other] = lines[other], line
            case 5:
                lines.insert(place, dice.choice(HOSTILE))
            case 6:
                lines[place] = line[:2] + dice.choice(HOSTILE)[2:]
            case _:
                at = dice.randrange(len(line) + 1)
                lines[place] = line[:at] + chr(dice.randrange(1, 0x2FFF)) + line[at + 1 :]
        if len(lines) < 3:
            break
    return "\r\n".join(lines)


@dataclass(slots=True)
class Outcome:
    """What came of the offers.

    Attributes:
        statuses: how often each status and code was answered.
        descriptors, rss_mb: at even distances over the run, after the first offers.
        calls_left: calls that were still there.
        seconds: it took.
    """

    offers: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    descriptors: list[int] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    calls_left: int = 0
    seconds: float = 0.0

    @property
    def server_errors(self) -> int:
        return sum(count for status, count in self.statuses.items() if status.startswith("5"))


def open_descriptors() -> int:
    """Descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def rss_mb() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * 4096 / 2**20, 1)


async def fuzz(
    client: httpx.AsyncClient, gateway: Gateway, query: str, count: int, seed: int = 0
) -> Outcome:
    """Sends mutated offers one after another."""
    offer = await an_offer()
    dice = random.Random(seed)
    outcome, statuses = Outcome(offers=count), Counter[str]()
    began = time.monotonic()
    settled = min(SETTLED, count // 3)
    every = max((count - settled) // SAMPLES, 1)
    for number in range(count):
        response = await client.post(
            f"/v1/sessions?{query}",
            content=mutate_offer(offer, dice).encode("utf-8", "replace"),
            headers={"content-type": "application/sdp"},
        )
        code = "" if response.status_code == 201 else f" {response.json()['error']['code']}"
        statuses[f"{response.status_code}{code}"] += 1
        if response.status_code == 201:
            await client.delete(response.headers["location"])
        if number >= settled and (number - settled) % every == 0:
            gc.collect()
            outcome.descriptors.append(open_descriptors())
            outcome.rss_mb.append(rss_mb())
    outcome.statuses = dict(statuses.most_common())
    outcome.calls_left = gateway.sessions.count
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


async def measure(count: int, seed: int) -> Outcome:
    """A run against a gateway of its own."""
    gateway = Gateway(
        Settings(backend="passthrough", log_level="error", calibrate=False, client_sessions=0)
    )
    await gateway.start()
    try:
        transport = httpx.ASGITransport(create_app(gateway), raise_app_exceptions=False)
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", timeout=60
        ) as client:
            return await fuzz(client, gateway, "mode=avatar&avatar=anna", count, seed)
    finally:
        await gateway.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 where a promise was broken."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_offers", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    logging.disable(logging.ERROR)  # aiortc's own troubles with offers fill screens
    circumstances = here("python -m benchmarks.fuzz_offers", given)
    outcome = asyncio.run(measure(options.count, options.seed))
    text = json.dumps({"circumstances": asdict(circumstances), **asdict(outcome)}, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    leaked = outcome.descriptors[-1] - outcome.descriptors[0]
    return int(outcome.server_errors > 0 or outcome.calls_left > 0 or leaked > 2)


if __name__ == "__main__":
    sys.exit(main())
