"""Calls by HTTP as RFC 9725 has it: what an answer says, candidates that come later, methods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from server.api.app import create_app
from server.api.gateway import Gateway
from server.config import Settings
from tests.server_fakes import make_avatar

SDP = {"content-type": "application/sdp"}
FRAGMENT = {"content-type": "application/trickle-ice-sdpfrag"}


@asynccontextmanager
async def running(avatars: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Gateway]]:
    """A gateway and a client of it."""
    make_avatar(avatars)
    settings = Settings(backend="passthrough", avatar_dirs=(avatars,), log_level="warning")
    gateway = Gateway(settings)
    await gateway.start()
    try:
        transport = httpx.ASGITransport(create_app(gateway))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client, gateway
    finally:
        await gateway.stop()


def asked(method: str, path: str, **request: Any) -> httpx.Response:
    """The answer of a gateway whose engine does not run."""

    async def main() -> httpx.Response:
        app = create_app(Gateway(Settings(backend="passthrough", calibrate=False)))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **request)

    return asyncio.run(main())


class Trickler:
    """A client that offers before it tells its candidates."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self.rtc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.rtc.addTransceiver("audio", "recvonly")
        self.rtc.addTransceiver("video", "recvonly")
        self.candidates: list[str] = []
        self.answer = httpx.Response(0)

    async def call(self) -> None:
        await self.rtc.setLocalDescription(await self.rtc.createOffer())
        lines = self.rtc.localDescription.sdp.split("\r\n")
        ice = [line for line in lines if line.startswith(("a=candidate:", "a=end-of"))]
        self.candidates = list(dict.fromkeys(ice))
        offer = "\r\n".join(line for line in lines if line not in ice)
        self.answer = await self._client.post("/v1/sessions?avatar=ada", content=offer, headers=SDP)
        assert self.answer.status_code == 201

    async def patch(
        self, lines: list[str], *, tag: str | None = None, **headers: str
    ) -> tuple[int, str]:
        """Status and code of the answer to a fragment."""
        tags = {"if-match": self.answer.headers["etag"] if tag is None else tag}
        response = await self._client.patch(
            self.answer.headers["location"],
            content="\r\n".join(lines),
            headers=FRAGMENT | tags | headers,
        )
        return response.status_code, response.json()["code"] if response.content else ""

    async def connected(self) -> None:
        await self.rtc.setRemoteDescription(RTCSessionDescription(self.answer.text, "answer"))
        async with asyncio.timeout(10):
            while self.rtc.connectionState != "connected":
                await asyncio.sleep(0.01)


def test_candidates_may_come_after_their_offer(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (client, gateway):
            trickler = Trickler(client)
            await trickler.call()
            session = trickler.answer.headers["location"].rpartition("/")[2]
            connection = gateway.sessions.peer_of(session)._connection
            transport = connection.getTransceivers()[0].receiver.transport.transport
            assert transport.getRemoteCandidates() == []
            fragment = ["m=audio 9 RTP/AVP 0", "a=mid:0", *trickler.candidates]
            assert await trickler.patch(fragment) == (204, "")
            told = [line for line in trickler.candidates if " udp " in line]
            known = [candidate.type for candidate in transport.getRemoteCandidates()]
            assert known == ["host"] * len(told) and known
            await trickler.connected()
            assert (await trickler.patch(trickler.candidates))[0] == 204, "too late does no harm"
            await trickler.rtc.close()

    asyncio.run(main())


def test_a_fragment_is_for_the_connection_that_its_tag_names(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as (client, gateway):
            trickler = Trickler(client)
            await trickler.call()
            patch, end = trickler.patch, ["a=end-of-candidates"]
            weak = f"W/{trickler.answer.headers['etag']}"
            elsewhere = ["m=audio 9 RTP/AVP 0", "a=mid:9", *trickler.candidates]
            restart = ["a=ice-ufrag:ysXw", "a=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k"]
            text = {"content-type": "text/plain"}
            assert await patch(end, tag='"another"') == (412, "if_match")
            assert await patch(end, tag=weak) == (412, "if_match")
            assert await patch(restart, tag="*") == (422, "ice_restart")
            assert await patch(elsewhere) == (400, "bad_fragment")
            assert await patch(["nonsense"]) == (400, "bad_fragment")
            assert await patch(end, **text) == (415, "content_type")
            path = trickler.answer.headers["location"]
            missing = await client.patch(path, content=end[0], headers=FRAGMENT)
            assert (missing.status_code, missing.json()["code"]) == (428, "no_if_match")
            assert gateway.sessions.count == 1, "none of this ends the call"
            trickler.answer.headers["location"] = "/v1/sessions/none"
            assert await patch(end) == (404, "unknown_session")
            await trickler.rtc.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("path", "header", "value"),
    [
        ("/v1/sessions", "accept-post", "application/sdp"),
        ("/v1/sessions/0", "accept-patch", "application/trickle-ice-sdpfrag"),
    ],
)
def test_options_tell_what_a_body_must_be_and_other_methods_are_reserved(
    path: str, header: str, value: str
) -> None:
    options = asked("OPTIONS", path)
    assert options.status_code == 204 and options.headers[header] == value
    for method in ("GET", "HEAD", "PUT"):
        refused = asked(method, path)
        assert refused.status_code == 405
        assert refused.headers["allow"] == options.headers["allow"]


@pytest.mark.parametrize("path", ["/v1/sessions?mode=opera", "/v1/none"])
def test_an_error_is_a_problem_in_the_form_of_rfc_9457(path: str) -> None:
    response = asked("POST", path, content="v=0", headers=SDP)
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["title"]) == (response.status_code, response.reason_phrase)
    assert body["error"] == {"code": body["code"], "message": body["detail"]}
