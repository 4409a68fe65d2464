"""Every secret, wherever a client can put it: no error, figure or log line shows it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from benchmarks.caller import RecordedCall, recorded_call
from server.access.auth import Tokens
from server.api.gateway import Gateway
from server.logs import TEXT, JsonFormatter, TextFormatter, configure_logging
from server.websocket.wire import Codec, Packet, PacketType, encode_packet
from tests.server.served import served
from tests.server_fakes import make_avatar

TOKEN_SECRET = "n" * 40
TURN_SECRET = "t" * 30

CLIENTS = ("httpx", "httpcore")  # they log what the test itself sends

Logs = tuple[io.StringIO, io.StringIO]


@pytest.fixture
def logs() -> Iterator[Logs]:
    """All that this process logs at debug, as text and as JSON."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    text, lines = io.StringIO(), io.StringIO()
    configure_logging("debug", "text")
    root.handlers.clear()
    for stream, formatter in [(text, TextFormatter(TEXT)), (lines, JsonFormatter())]:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        root.addHandler(handler)
    for client in CLIENTS:
        logging.getLogger(client).setLevel(logging.WARNING)
    yield text, lines
    for client in CLIENTS:
        logging.getLogger(client).setLevel(logging.NOTSET)
    root.setLevel(before[0])
    root.handlers[:] = before[1]


ROUTES = [
    ("POST", "/v1/sessions"),
    ("DELETE", "/v1/sessions/{}"),
    ("POST", "/v1/sessions/{}/resume"),
    ("PATCH", "/v1/sessions/{}"),
    ("POST", "/v1/whip/{}"),
    ("POST", "/v1/whep/{}"),
    ("PATCH", "/v1/whep/stage/{}"),
    ("DELETE", "/v1/whep/stage/{}"),
    ("GET", "/v1/avatars/{}/poster.jpg"),
    ("GET", "/v1/avatars/jobs/{}"),
    ("POST", "/v1/avatars"),
    ("DELETE", "/v1/avatars/{}"),
    ("POST", "/v1/tickets/{}"),
    ("GET", "/v1/media"),
    ("GET", "/metrics/{}"),
    ("GET", "/{}"),
]


def variants(secret: str) -> list[str]:
    """A secret, and how a hand slips with it."""
    return [secret, f"Bearer {secret}x"]


async def ask_everything(client: httpx.AsyncClient, secret: str) -> list[str]:
    """Requests with a secret in every place that takes text; what was answered."""
    asking = []
    for method, path in ROUTES:
        sent = {
            "content-type": secret if method == "PATCH" else "application/sdp",
            "accept": secret if method == "GET" else "*/*",
            "resume-token": secret,
            "cookie": f"token={secret}",
            "x-forwarded-for": secret,
        }
        query = {"mode": secret, "avatar": secret, "name": secret, "key": secret}
        target = path.format(secret)
        asking.append(client.request(method, target, params=query, headers=sent, content=secret))
        asking.append(client.get(target, headers={"authorization": secret}))
    offer = (
        f"v=0\r\na=ice-pwd:{secret}\r\na=ice-ufrag:a\r\na=fingerprint:{secret}\r\nm=audio 9 X\r\n"
    )
    for body in (offer + f"m={secret} 9 X 0\r\n", offer + "m=video 9 X 0\r\n"):
        asking.append(
            client.post(
                "/v1/sessions?mode=avatar&avatar=ada",
                headers={"content-type": "application/sdp"},
                content=body,
            )
        )
    return [f"{answer.headers} {answer.text}" for answer in await asyncio.gather(*asking)]


async def open_sockets(url: str, token: str, secret: str) -> list[str]:
    """WebSockets with a secret in every place; what was said before they ended."""
    address = url.replace("http", "ws") + "/v1/media"
    said = []
    legal = "".join(c if c.isalnum() or c in "._-" else "-" for c in secret)
    for query, offered, authorization in [
        ("?avatar=ada", ["lipwire.v1", "lipwire.ticket." + legal], None),
        ("?avatar=ada", ["lipwire.ticket." + legal], f"Bearer {token}"),
        ("?avatar=ada", [legal], f"Bearer {token}"),
        (f"?avatar={legal}&mode={legal}", ["lipwire.v1"], f"Bearer {token}"),
        (f"/{legal}?avatar=ada", ["lipwire.v1"], f"Bearer {token}"),
        (f"?avatar=ada&token={legal}", ["lipwire.v1"], f"Bearer {legal}"),
    ]:
        headers = {} if authorization is None else {"authorization": authorization}
        try:
            async with connect(
                address + query,
                subprotocols=[Subprotocol(name) for name in offered],
                additional_headers=headers,
            ):
                pass
        except InvalidHandshake as error:
            response = getattr(error, "response", None)
            assert response is not None
            said.append(f"{response.headers} {response.body!r}")
    messages: list[str | bytes] = [
        secret,
        json.dumps({"type": secret}),
        json.dumps({"type": "ping", "t": {"of": secret}}),
        json.dumps({"type": "session.start", "audio": secret}),
        secret.encode(),
        encode_packet(Packet(PacketType.AUDIO, Codec.PCM16, 9, 0, 0, 1, secret.encode() * 2)),
    ]
    for first in messages:
        async with connect(
            f"{address}?avatar=ada&note={legal}",
            subprotocols=[Subprotocol("lipwire.v1")],
            additional_headers={"authorization": f"Bearer {token}"},
        ) as socket:
            await socket.send(first)
            try:
                while True:
                    said.append(str(await socket.recv()))
            except ConnectionClosed as closed:
                said.append(str(closed))
    async with connect(
        f"{address}?avatar=ada",
        subprotocols=[Subprotocol("lipwire.v1")],
        additional_headers={"authorization": f"Bearer {token}"},
    ) as socket:
        await socket.send('{"type":"session.start"}')
        for message in messages:
            await socket.send(message)
        await socket.send('{"type":"session.end"}')
        try:
            while True:
                message = await socket.recv()
                if isinstance(message, str) and '"error"' in message:
                    said.append(message)
        except ConnectionClosed as closed:
            said.append(str(closed))
    return said


async def talk(caller: RecordedCall, secret: str) -> list[str]:
    """A secret in every place of the data channel's messages; the errors that came back."""
    channel = caller.call.connection._channel
    heard: list[str] = []
    channel.on("message", heard.append)
    messages = (secret, json.dumps({"type": secret}), json.dumps({"type": "ping", "t": [secret]}))
    for message in messages:
        channel.send(message)
    while sum('"error"' in message for message in heard) < len(messages):
        await asyncio.sleep(0.01)
    return heard


def test_no_secret_comes_back_from_any_place_it_is_put(
    tmp_path: Path, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPWIRE_TOKEN_SECRET", TOKEN_SECRET)
    make_avatar(tmp_path)
    token = Tokens(TOKEN_SECRET.encode()).issue(["admin"], 600)
    secrets = [TOKEN_SECRET, TURN_SECRET, token]
    said: list[str] = []

    async def main() -> None:
        async with served(
            avatar_dirs=(tmp_path,),
            uploads_dir=tmp_path / "uploads",
            auth="on",
            max_sessions=8,
            log_level="debug",
            turn_urls=("turn:turn.example:3478",),
            turn_secret=TURN_SECRET,
        ) as (url, gateway):
            headers = {"authorization": f"Bearer {token}"}
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20) as client:
                await drive(client, url, gateway)

    async def drive(client: httpx.AsyncClient, url: str, gateway: Gateway) -> None:
        async with recorded_call("", avatar="ada", http=client) as caller:
            await drive_call(client, url, gateway, caller)

    async def drive_call(
        client: httpx.AsyncClient, url: str, gateway: Gateway, caller: RecordedCall
    ) -> None:
        session = next(iter(gateway.sessions._sessions.values()))
        ticket = (await client.post("/v1/tickets")).json()["ticket"]
        told = (await client.get("/v1/ice-servers")).json()["ice_servers"][0]
        secrets.extend([ticket, session.id, session.resume_token, told["credential"]])
        for secret in secrets:
            said.extend(await talk(caller, secret))
        for secret in secrets:
            asking = [ask_everything(client, variant) for variant in variants(secret)]
            said.extend(chain.from_iterable(await asyncio.gather(*asking)))
            said.extend(await open_sockets(url, token, secret))
        for path in ("/metrics", "/v1/status", "/v1/avatars", "/openapi.json", "/readyz"):
            said.append((await client.get(path)).text)

    asyncio.run(main())
    text, lines = (stream.getvalue() for stream in logs)
    assert "begun mode=avatar" in text and "offer refused" in text
    assert all(json.loads(line) for line in lines.splitlines())
    assert len(said) > 400
    for secret in secrets:
        part = secret[: len(secret) * 3 // 4]
        for place in (text, lines, *said):
            at = place.find(part)
            assert at < 0, place[max(at - 300, 0) : at + 300]
