"""The STUN and TURN servers that a client is told of, with credentials that expire. Pure.

The credentials are those of coturn's `use-auth-secret` (draft-uberti-behave-turn-rest-00):
the user name begins with the time of expiry, the password is its HMAC-SHA1 under
a secret that TURN server and this one share, in base64.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from server.config import Settings


@dataclass(frozen=True, slots=True)
class IceServer:
    """One entry of `RTCConfiguration.iceServers`.

    Attributes:
        username, credential: None where none are needed (STUN).
    """

    urls: tuple[str, ...]
    username: str | None = None
    credential: str | None = None

    def describe(self) -> dict[str, Any]:
        """As `RTCPeerConnection` takes it."""
        described: dict[str, Any] = {"urls": list(self.urls)}
        if self.username is not None:
            described |= {"username": self.username, "credential": self.credential}
        return described


def turn_credentials(secret: str, name: str, expires: int) -> tuple[str, str]:
    """User name and password that a TURN server of that secret takes until `expires` (Unix time).

    Args:
        name: whose they are, for the TURN server's log.
    """
    username = f"{expires}:{name}"
    digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
    return username, base64.b64encode(digest).decode()


def ice_servers_for(settings: Settings, name: str, now: float | None = None) -> list[IceServer]:
    """What a client may use to reach this server.

    Args:
        name: of the call, for the TURN server's log.
        now: Unix time, for tests.
    """
    servers = []
    if settings.stun_urls:
        servers.append(IceServer(settings.stun_urls))
    if settings.turn_urls and settings.turn_secret is not None:
        expires = int((time.time() if now is None else now) + settings.turn_ttl_s)
        secret = settings.turn_secret.get_secret_value()
        username, credential = turn_credentials(secret, name, expires)
        servers.append(IceServer(settings.turn_urls, username, credential))
    return servers


def ice_links(servers: Sequence[IceServer]) -> list[str]:
    """Values of `Link` headers, as RFC 9725, section 4.6, has them."""
    links = []
    for server in servers:
        for url in server.urls:
            link = f'<{url}>; rel="ice-server"'
            if server.username is not None:
                link += (
                    f'; username="{server.username}"; credential="{server.credential}"'
                    '; credential-type="password"'
                )
            links.append(link)
    return links
