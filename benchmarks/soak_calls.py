"""What a soak does to a server: long calls, calls that come and go, and input that is wrong."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Literal

import httpx
import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from benchmarks.caller import SOUND_HZ, Camera, RecordedCall, an_offer, recorded_call, vanish
from benchmarks.fuzz_offers import mutate_offer
from server.client.capture import I16, U8, Microphone
from server.client.socket_call import SocketCall, open_call
from server.websocket.wire import MAX_PACKET_BYTES, SUBPROTOCOL, US_PER_S, Packet, PacketType

INTERRUPT_EVERY_S = 13.0
RESUME_EVERY_S = 60.0
PAUSE_S = 0.6  # between utterances
FIRST_PICTURE_S = 60.0
PICTURES = 3  # of a short call
HEARD = 400  # packets of sound whose arrival is remembered
SKEWS = 500


@dataclass(slots=True)
class Doings:
    """What was done and what came of it.

    Attributes:
        counts: calls, interrupts, resumes, bad input, by kind.
        failures: what went wrong with calls that should have gone right.
        skews_ms: picture minus sound of one pts at a WebSocket's client, the newest.
    """

    counts: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    skews_ms: deque[float] = field(default_factory=lambda: deque(maxlen=SKEWS))


@dataclass(frozen=True, slots=True)
class Material:
    """What is said and shown.

    Attributes:
        speech: 48 kHz.
        pictures: I420, for a camera over WebRTC.
        jpegs: the same, for one over a WebSocket.
    """

    speech: I16
    pictures: list[U8]
    jpegs: list[bytes]


class Callers:
    """Makes calls at one server until cancelled."""

    def __init__(
        self, address: str, client: httpx.AsyncClient, avatar: str, material: Material, seed: int
    ) -> None:
        self.doings = Doings()
        self._address = address
        self._client = client
        self._avatar = avatar
        self._material = material
        self._dice = random.Random(seed)

    async def make_long_calls(self, seconds: float) -> None:
        """One call after another, of four kinds in turn."""
        kinds: list[tuple[str, Callable[[float], Awaitable[None]]]] = [
            ("websocket avatar", lambda s: self._talk_over_socket("avatar", s)),
            ("webrtc live", lambda s: self._talk_over_webrtc("live", s)),
            ("websocket live", lambda s: self._talk_over_socket("live", s)),
            ("webrtc avatar", lambda s: self._talk_over_webrtc("avatar", s)),
        ]
        while True:
            for name, talk in kinds:
                await self._guarded(f"long {name}", talk(seconds))

    async def make_short_calls(self, pause_s: float) -> None:
        """Calls that show a few pictures and end, each kind in another way."""
        kinds: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("hung up by HTTP", lambda: self._show_up("delete")),
            ("closed", lambda: self._show_up("close")),
            ("resumed", lambda: self._show_up("resume")),
            ("vanished", lambda: self._show_up("vanish")),
            ("websocket, one sentence", self._say_one_sentence),
            ("websocket, torn", self._tear_a_socket),
        ]
        while True:
            for name, show in kinds:
                await self._guarded(f"short, {name}", show())
                await asyncio.sleep(pause_s)

    async def make_trouble(self, pause_s: float) -> None:
        """Requests, offers and messages that are wrong."""
        troubles: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("mutated offer", self._mutated_offer),
            ("unknown avatar", self._unknown_avatar),
            ("wrong resume token", self._wrong_token),
            ("socket without a start", lambda: self._bad_socket([b"\x00" * 30])),
            ("socket with noise", self._noisy_socket),
            ("noise for HTTP", self._noise_for_http),
        ]
        while True:
            for name, cause in troubles:
                await self._guarded(f"bad: {name}", cause())
                await asyncio.sleep(pause_s)

    async def _guarded(self, name: str, work: Awaitable[None]) -> None:
        """Counts a call; one that fails is counted as such, and the next one made."""
        try:
            await work
            self.doings.counts[name] += 1
        except Exception as error:  # noqa: BLE001 (of any kind: told at the end, after hours)
            first = error.exceptions[0] if isinstance(error, ExceptionGroup) else error
            self.doings.failures[f"{name}: {type(first).__name__}: {first!s:.80}"] += 1
            await asyncio.sleep(1.0)

    # --- over a WebSocket ------------------------------------------------------

    async def _talk_over_socket(self, mode: str, seconds: float) -> None:
        ends = time.monotonic() + seconds
        avatar = self._avatar if mode == "avatar" else None
        async with (
            open_call(self._address, avatar=avatar, mode="avatar" if avatar else "live") as call,
            asyncio.TaskGroup() as tasks,
        ):
            work = [tasks.create_task(self._listen(call))]
            work.append(tasks.create_task(self._speak(call) if avatar else self._film(call)))
            while time.monotonic() < ends:
                await asyncio.sleep(INTERRUPT_EVERY_S)
                if not work[0].done():
                    await call.interrupt()
                    self.doings.counts["interrupts"] += 1
                await call._connection.send('{"type": "no such thing"}')
            await call.hang_up()
            for task in work:
                task.cancel()

    async def _speak(self, call: SocketCall) -> None:
        """Sentences of a few seconds, each over as soon as it is heard or interrupted."""
        while True:
            start = self._dice.randrange(len(self._material.speech) // 2)
            length = self._dice.randrange(SOUND_HZ // 2, 6 * SOUND_HZ)
            await call.say(self._material.speech[start : start + length])
            await call.end_segment()
            await asyncio.sleep(PAUSE_S)

    async def _film(self, call: SocketCall) -> None:
        """A microphone and a camera at 25 pictures a second."""
        began, number, per_frame = time.monotonic(), 0, SOUND_HZ // 25
        while True:
            start = number * per_frame % (len(self._material.speech) - per_frame)
            await call.say(self._material.speech[start : start + per_frame])
            picture = self._material.jpegs[number % len(self._material.jpegs)]
            await call.show(picture, number * 40_000)
            number += 1
            await asyncio.sleep(max(began + number / 25 - time.monotonic(), 0))

    async def _listen(self, call: SocketCall) -> None:
        """Reads all that comes and notes how far pictures arrive from their sound."""
        heard: dict[int, float] = {}
        async for event in call:
            if not isinstance(event, Packet):
                continue
            now, place = time.monotonic(), event.pts_us * 50 // US_PER_S  # blocks of 20 ms
            if event.type is PacketType.AUDIO:
                heard[place] = now
                if len(heard) > HEARD:
                    del heard[next(iter(heard))]
            elif place in heard:
                self.doings.skews_ms.append(1000 * (now - heard[place]))

    async def _say_one_sentence(self) -> None:
        async with open_call(self._address, avatar=self._avatar, rate_hz=16_000) as call:
            saying = asyncio.create_task(call.say(self._material.speech[:32_000]))
            await call.until(lambda e: isinstance(e, Packet) and e.type is PacketType.VIDEO)
            await call.interrupt()
            await saying
            await call.hang_up()

    async def _tear_a_socket(self) -> None:
        """The connection goes in the middle of everything, without a close frame."""
        async with open_call(self._address, avatar=self._avatar) as call:
            await call.until(lambda e: isinstance(e, Packet) and e.type is PacketType.VIDEO)
            call._connection.transport.abort()

    # --- over WebRTC -----------------------------------------------------------

    def _call(self, mode: Literal["avatar", "live"]) -> AbstractAsyncContextManager[RecordedCall]:
        pictures = self._material.pictures
        camera = Camera(lambda number: pictures[number % len(pictures)]) if mode == "live" else None
        return recorded_call(
            self._address,
            mode=mode,
            avatar=self._avatar if mode == "avatar" else None,
            sound=Microphone(self._material.speech),
            camera=camera,
            http=self._client,
        )

    async def _talk_over_webrtc(self, mode: Literal["avatar", "live"], seconds: float) -> None:
        ends = time.monotonic() + seconds
        async with self._call(mode) as caller:
            await caller.until(lambda got: len(got.video) >= PICTURES, FIRST_PICTURE_S)
            while time.monotonic() < ends:
                resume_at = time.monotonic() + RESUME_EVERY_S
                while time.monotonic() < min(resume_at, ends):
                    await asyncio.sleep(INTERRUPT_EVERY_S)
                    await caller.call.interrupt()
                    caller.call.connection._channel.send('{"type": "no such thing"}')
                    self.doings.counts["interrupts"] += 1
                await self._resume(caller)
                self.doings.counts["resumes"] += 1

    async def _show_up(self, ending: str) -> None:
        async with self._call("avatar") as caller:
            await caller.until(lambda got: len(got.video) >= PICTURES, FIRST_PICTURE_S)
            if ending == "delete":
                await self._client.delete(caller.call.location)
            elif ending == "close":
                await caller.call.close()
            elif ending == "vanish":
                await vanish(caller.call)
                await caller.call.close()  # nobody is told
            elif ending == "resume":
                await self._resume(caller)

    async def _resume(self, caller: RecordedCall) -> None:
        await caller.call.resume()
        shown = len(caller.received.video)
        await caller.until(lambda got: len(got.video) >= shown + PICTURES, FIRST_PICTURE_S)

    # --- wrong ------------------------------------------------------------------

    async def _mutated_offer(self) -> None:
        offer = mutate_offer(await an_offer(), self._dice)
        response = await self._client.post(
            f"{self._address}/v1/sessions",
            params={"mode": "avatar", "avatar": self._avatar},
            content=offer.encode("utf-8", "replace"),
            headers={"content-type": "application/sdp"},
        )
        if response.status_code == 201:
            await self._client.delete(f"{self._address}{response.headers['location']}")
        elif response.status_code >= 500 and response.status_code != 503:
            raise OSError(f"a mutated offer was answered {response.status_code}")

    async def _unknown_avatar(self) -> None:
        await self._client.post(
            f"{self._address}/v1/sessions?mode=avatar&avatar=nobody",
            content="v=0\r\n",
            headers={"content-type": "application/sdp"},
        )

    async def _wrong_token(self) -> None:
        await self._client.post(
            f"{self._address}/v1/sessions/{'0' * 32}/resume",
            content="v=0\r\n",
            headers={"content-type": "application/sdp", "resume-token": "x"},
        )

    async def _noisy_socket(self) -> None:
        start = '{"type": "session.start", "audio": "pcm16", "rate_hz": 48000, "video": "jpeg"}'
        noise = [self._dice.randbytes(self._dice.randrange(1, 3000)) for _ in range(50)]
        await self._bad_socket([start, *noise, bytes(MAX_PACKET_BYTES + 1)])

    async def _bad_socket(self, messages: list[str | bytes]) -> None:
        """Says what it has to say and reads until it is closed."""
        address = self._address.replace("http", "ws", 1)
        async with connect(
            f"{address}/v1/media?mode=avatar&avatar={self._avatar}",
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
        ) as socket:
            with suppress(ConnectionClosed):  # which is what should happen
                for message in messages:
                    await socket.send(message)
                async with asyncio.timeout(30):
                    async for _ in socket:
                        pass

    async def _noise_for_http(self) -> None:
        host, port = self._address.rsplit("/", 1)[1].split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(np.random.default_rng(self._dice.randrange(1000)).bytes(500) + b"\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
