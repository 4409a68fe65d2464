"""A stream that one stock client publishes (WHIP) and another one watches (WHEP)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame

from benchmarks.caller import Camera
from server.api.app import create_app
from server.api.gateway import Gateway
from server.client.capture import Microphone
from server.config import Settings
from tests.server_fakes import make_avatar

SDP = {"content-type": "application/sdp"}
Scenario = Callable[[httpx.AsyncClient, Gateway], Awaitable[None]]


def run(avatars: Path, scenario: Scenario, **settings: Any) -> None:
    """Runs a scenario against a gateway with an avatar called ada."""

    async def main() -> None:
        make_avatar(avatars)
        defaults: dict[str, Any] = {
            "backend": "passthrough", "log_level": "warning", "calibrate": False
        }  # fmt: skip
        gateway = Gateway(Settings(**{**defaults, "avatar_dirs": (avatars,), **settings}))
        await gateway.start()
        try:
            transport = httpx.ASGITransport(create_app(gateway))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                await scenario(client, gateway)
        finally:
            await gateway.stop()

    asyncio.run(main())


def noise() -> Microphone:
    samples = np.random.default_rng(0).standard_normal(30 * 48_000) * 4000
    return Microphone(samples.astype(np.int16))


def camera() -> Camera:
    picture = np.full((360, 320), 128, np.uint8)
    return Camera(lambda _: picture)


class StockClient:
    """An HTTP request and a connection of one direction, as OBS and browsers' players make them."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.rtc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.rtc.on("track", self._on_track)
        self._reading: list[asyncio.Task[None]] = []
        self.pictures = 0
        self.loudest = 0
        self.answer = httpx.Response(0)

    async def offer(self, path: str) -> httpx.Response:
        await self.rtc.setLocalDescription(await self.rtc.createOffer())
        self.answer = await self._client.post(
            path, content=self.rtc.localDescription.sdp, headers=SDP
        )
        if self.answer.status_code == 201:
            answer = RTCSessionDescription(self.answer.text, "answer")
            await self.rtc.setRemoteDescription(answer)
        return self.answer

    async def publish(self, path: str, *tracks: MediaStreamTrack) -> httpx.Response:
        for track in tracks:
            self.rtc.addTransceiver(track, "sendonly")
        return await self.offer(path)

    async def watch(self, path: str, *kinds: str) -> httpx.Response:
        for kind in kinds or ("audio", "video"):
            self.rtc.addTransceiver(kind, "recvonly")
        return await self.offer(path)

    async def until(self, condition: Callable[[StockClient], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition(self):
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        await self.rtc.close()
        await asyncio.gather(*self._reading)

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._reading.append(asyncio.create_task(self._read(track)))

    async def _read(self, track: MediaStreamTrack) -> None:
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if isinstance(frame, VideoFrame):
                self.pictures += 1
            elif isinstance(frame, AudioFrame):
                self.loudest = max(self.loudest, int(np.abs(frame.to_ndarray()).max()))


def heard_and_seen(client: StockClient) -> bool:
    return client.pictures > 10 and client.loudest > 2000


@pytest.mark.parametrize("query", ["mode=avatar&avatar=ada", "mode=live"])
def test_what_one_client_publishes_another_one_watches(tmp_path: Path, query: str) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        publisher, viewer = StockClient(client), StockClient(client)
        # As OBS does it, with a camera in either mode.
        published = await publisher.publish(f"/v1/whip/stage?{query}", noise(), camera())
        assert published.status_code == 201 and "a=sendonly" not in published.text
        assert published.text.count("a=recvonly") == (2 if "live" in query else 1)
        watched = await viewer.watch("/v1/whep/stage")
        assert watched.status_code == 201 and watched.text.count("a=sendonly") == 2
        await viewer.until(heard_and_seen)
        assert publisher.pictures == 0, "nothing comes back to who publishes"
        page = (await client.get("/metrics")).text
        assert "lipwire_sessions 1.0" in page and "lipwire_viewers 1.0" in page

        gone = await client.delete(watched.headers["location"])
        assert gone.status_code == 204 and gateway.sessions.count == 1
        again = StockClient(client)
        assert (await again.watch("/v1/whep/stage", "video")).status_code == 201
        await again.until(lambda viewer: viewer.pictures > 5)

        assert (await client.delete(published.headers["location"])).status_code == 204
        assert gateway.sessions.count == 0
        async with asyncio.timeout(5):
            while again.rtc.connectionState != "closed":
                await asyncio.sleep(0.02)
        for stock in (publisher, viewer, again):
            await stock.close()

    run(tmp_path, scenario)


def test_a_stream_has_one_publisher_and_one_viewer(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        clients = [StockClient(client) for _ in range(5)]
        publisher, other, early, viewer, late = clients

        async def code(answering: Awaitable[httpx.Response]) -> tuple[int, str, str | None]:
            answer = await answering
            return answer.status_code, answer.json()["code"], answer.headers.get("retry-after")

        path = "/v1/whip/stage?avatar=ada"
        assert await code(early.watch("/v1/whep/stage")) == (404, "unknown_stream", "3")
        assert (await publisher.publish(path, noise())).status_code == 201
        assert await code(other.publish(path, noise())) == (409, "stream_taken", "3")
        watched = await viewer.watch("/v1/whep/stage")
        assert watched.status_code == 201
        assert await code(late.watch("/v1/whep/stage")) == (409, "watched", "3")
        await viewer.until(heard_and_seen)
        guessed = watched.headers["location"].rpartition("/")[0] + "/" + "0" * 32
        refused = await client.delete(guessed)
        assert (refused.status_code, refused.json()["code"]) == (404, "unknown_session")
        for stock in clients:
            await stock.close()

    run(tmp_path, scenario)


def test_a_publisher_that_comes_back_goes_on_with_its_session(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        before, after, viewer = (StockClient(client) for _ in range(3))
        path = "/v1/whip/stage?avatar=ada"
        first = await before.publish(path, noise())
        await viewer.watch("/v1/whep/stage")
        await viewer.until(heard_and_seen)
        transports = {sender.transport.transport for sender in before.rtc.getSenders()}
        for transport in transports:  # a network that is gone says nothing
            await transport.stop()
        second = await after.publish(path, noise())
        async with asyncio.timeout(20):
            while second.status_code == 409:
                await asyncio.sleep(0.05)
                after = StockClient(client)
                second = await after.publish(path, noise())
        assert second.headers["location"] == first.headers["location"]
        assert second.headers["etag"] != first.headers["etag"]
        viewer.loudest = 0
        await viewer.until(lambda viewer: viewer.loudest > 2000)
        assert gateway.sessions.count == 1
        for stock in (before, after, viewer):
            await stock.close()

    run(tmp_path, scenario, stalled_after_s=0.5)


def test_a_viewer_that_never_connects_makes_room(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        publisher, gone, viewer = (StockClient(client) for _ in range(3))
        await publisher.publish("/v1/whip/stage?avatar=ada", noise())
        gone.rtc.addTransceiver("video", "recvonly")
        await gone.rtc.setLocalDescription(await gone.rtc.createOffer())
        offer = gone.rtc.localDescription.sdp
        answer = await client.post("/v1/whep/stage", content=offer, headers=SDP)
        assert answer.status_code == 201
        async with asyncio.timeout(10):
            while gateway.sessions.viewers:
                await asyncio.sleep(0.02)
        assert (await viewer.watch("/v1/whep/stage")).status_code == 201
        await viewer.until(heard_and_seen)
        for stock in (publisher, gone, viewer):
            await stock.close()

    run(tmp_path, scenario, connect_timeout_s=2.0)


@pytest.mark.parametrize(
    ("path", "directions", "status", "code"),
    [
        ("/v1/whip/stage?mode=live", {"audio": "sendonly"}, 422, "media_lines"),
        ("/v1/whip/stage?avatar=ada", {"video": "sendonly"}, 422, "media_lines"),
        ("/v1/whip/stage?avatar=ada", {"audio": "recvonly"}, 422, "direction"),
        (
            "/v1/whip/stage?mode=live",
            {"audio": "sendonly", "video": "recvonly"},
            422,
            "direction",
        ),
        ("/v1/whip/no%20name?mode=live", {"audio": "sendonly"}, 422, "bad_name"),
        ("/v1/whip/stage?mode=opera", {"audio": "sendonly"}, 422, "bad_mode"),
        ("/v1/whep/stage", {"audio": "recvonly"}, 404, "unknown_stream"),
    ],
)
def test_an_offer_that_fits_no_stream_is_refused(
    path: str, directions: dict[str, str], status: int, code: str
) -> None:
    async def main() -> None:
        app = create_app(Gateway(Settings(backend="passthrough", calibrate=False)))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            stock = StockClient(client)
            for kind, direction in directions.items():
                stock.rtc.addTransceiver(kind, direction)
            answer = await stock.offer(path)
            assert (answer.status_code, answer.json()["code"]) == (status, code)
            await stock.close()

    asyncio.run(main())
