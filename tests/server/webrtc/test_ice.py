"""What clients are told about STUN and TURN, and a call through coturn."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from aiortc import RTCConfiguration, RTCIceServer
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from pydantic import ValidationError

from benchmarks.caller import recorded_call
from server.api.app import create_app
from server.api.gateway import Gateway
from server.client.errors import CallEnded
from server.config import Settings
from server.webrtc.ice import ice_links, ice_servers_for, turn_credentials
from tests.server_fakes import make_avatar

SECRET = "north"
COTURN = Path(__file__).resolve().parents[3] / "deploy" / "coturn" / "turnserver.conf"


def settings(**more: object) -> Settings:
    given: dict[str, object] = {
        "stun_urls": ["stun:stun.example:3478"],
        "turn_urls": ["turn:turn.example:3478", "turns:turn.example:5349?transport=tcp"],
        "turn_secret": SECRET,
    }
    return Settings.model_validate(given | more)


def test_credentials_are_those_of_coturns_shared_secret() -> None:
    username, credential = turn_credentials(SECRET, "a1b2c3d4", 1_800_000_000)
    assert username == "1800000000:a1b2c3d4"
    digest = hmac.new(b"north", username.encode(), hashlib.sha1).digest()
    assert base64.b64decode(credential) == digest


def test_clients_are_told_of_both_and_when_the_credentials_end() -> None:
    stun, turn = ice_servers_for(settings(turn_ttl_s=60), "abc", now=1000.0)
    assert stun.describe() == {"urls": ["stun:stun.example:3478"]}
    assert turn.username == "1060:abc" and len(turn.urls) == 2
    assert ice_servers_for(Settings(), "abc") == []


def test_links_are_those_of_whip() -> None:
    links = ice_links(ice_servers_for(settings(), "abc", now=0.0))
    assert links[0] == '<stun:stun.example:3478>; rel="ice-server"'
    assert links[1].startswith('<turn:turn.example:3478>; rel="ice-server"; username="7200:abc"; ')
    assert links[2].endswith('; credential-type="password"')


@pytest.mark.parametrize(
    "given",
    [
        {"turn_secret": None},
        {"turn_urls": []},
        {"stun_urls": ["http://stun.example"]},
        {"turn_urls": ['turn:x>; rel="evil"']},
        {"tls_cert": Path("cert.pem")},
    ],
)
def test_settings_that_do_not_belong_together_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="expected"):
        settings(**given)


def test_the_secret_is_in_no_text_of_the_settings() -> None:
    assert SECRET not in repr(settings()) and SECRET not in str(settings())


def _machine_address() -> str:
    """An address of this machine that is not loopback, which ICE never offers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("turnserver") is None, reason="needs coturn")
@pytest.mark.parametrize(
    ("secret", "peer", "works"),
    [(SECRET, "this machine", True), ("south", "this machine", False), (SECRET, "another", False)],
)
def test_a_call_goes_through_coturn_with_good_credentials_to_the_server_only(
    tmp_path: Path, secret: str, peer: str, works: bool
) -> None:
    make_avatar(tmp_path / "avatars")
    address, port = _machine_address(), _free_port()
    config = COTURN.read_text(encoding="utf-8").replace("/tmp/", f"{tmp_path}/")
    if peer == "this machine":
        config = config.replace("allowed-peer-ip=172.30.77.10", f"allowed-peer-ip={address}")
    (tmp_path / "turnserver.conf").write_text(f"{config}\nstatic-auth-secret={SECRET}\n")
    command = [
        "turnserver", "-c", str(tmp_path / "turnserver.conf"), f"--listening-ip={address}",
        f"--relay-ip={address}", f"--listening-port={port}",
    ]  # fmt: skip
    log = (tmp_path / "turn.log").open("wb")
    coturn = subprocess.Popen(command, stdout=log, stderr=log)
    log.close()
    try:
        _await_port(address, port)
        connected_s = asyncio.run(_relayed_call(tmp_path / "avatars", address, port, secret))
    finally:
        coturn.terminate()
        coturn.wait(10)
    assert (connected_s is not None) is works
    print(f"relayed call connected after {connected_s} s")  # noqa: T201


def _await_port(address: str, port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((address, port), 1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "coturn did not start"
            time.sleep(0.05)


async def _relayed_call(avatars: Path, address: str, port: int, secret: str) -> float | None:
    """Seconds from offer to the first picture over the relay alone; None where there is none."""
    gateway = Gateway(
        settings(
            backend="passthrough",
            avatar_dirs=(avatars,),
            log_level="warning",
            stun_urls=(),
            turn_urls=(f"turn:{address}:{port}",),
            turn_secret=secret,
            calibrate=False,
        )
    )
    await gateway.start()
    transport = httpx.ASGITransport(create_app(gateway))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            told = (await client.get("/v1/ice-servers")).json()["ice_servers"]
            relay_only = RTCConfiguration(
                iceServers=[RTCIceServer(**server) for server in told],
                iceTransportPolicy=RTCIceTransportPolicy.RELAY,
            )
            began = time.monotonic()
            try:
                async with recorded_call(
                    "http://localhost", avatar="ada", http=client, configuration=relay_only
                ) as caller:
                    lines = caller.call.connection.rtc.localDescription.sdp.splitlines()
                    candidates = [line for line in lines if line.startswith("a=candidate")]
                    assert candidates and all(" typ relay" in line for line in candidates)
                    await caller.until(lambda received: len(received.video) > 0)
                    return time.monotonic() - began
            except CallEnded:
                return None
    finally:
        await gateway.stop()
