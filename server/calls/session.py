"""One call as this gateway knows it, and why a call cannot begin or go on."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass

from engine.errors import LipwireError
from server.calls.silence import Silence
from server.engine_link.messages import Mode
from server.logs import SessionLog
from server.media.session_media import SessionMedia
from server.metrics.counters import Transport
from server.protocol import ServerMessage
from server.webrtc.peer import Peer
from server.webrtc.signaling import Role
from server.websocket.socket_peer import SocketPeer

logger = logging.getLogger(__name__)


class EngineNotReady(LipwireError):
    """The engine is being started again."""


class Draining(LipwireError):
    """No new calls: the server is about to end."""


class SessionUnknown(LipwireError):
    """There is no such session, or not any more."""


@dataclass(slots=True)
class Viewer:
    """Who watches a session that another client publishes.

    Attributes:
        id: secret name, which is also the right to end it.
        watcher: lets it go when nothing is heard of it.
    """

    id: str
    peer: Peer
    watcher: asyncio.Task[None] | None = None


class Session:
    """One call.

    Attributes:
        id: secret name, which is also the right to end the call.
        mode: "avatar" or "live".
        transport: "webrtc" or "websocket".
        largest: width and height of its largest picture.
        resume_token: the right to go on with it over another connection.
        began: when, in seconds of the monotonic clock.
        media: sound and pictures; None before they begin and when the call has ended.
        role: of its client's connection; a "publisher" only brings sound and pictures.
        peer: the client's connection; None as `media`.
        viewer: who watches what is published.
        silence: of its client; None before the connection.
        watcher: ends the call in its time.
        connected: media may flow.
    """

    def __init__(
        self,
        mode: Mode,
        avatar: str | None,
        largest: tuple[int, int],
        suffix: str = "",
        transport: Transport = "webrtc",
        role: Role = "call",
    ) -> None:
        """
        Args:
            suffix: what the id ends with.
        """
        self.id = secrets.token_hex(16) + suffix
        self.mode: Mode = mode
        self.transport: Transport = transport
        self.role: Role = role
        self.avatar = avatar
        self.largest = largest
        self.resume_token = secrets.token_urlsafe(24)
        self.log = SessionLog(logger, self.id[:8])
        self.began = time.monotonic()
        self.media: SessionMedia | None = None
        self.peer: Peer | SocketPeer | None = None
        self.viewer: Viewer | None = None
        self.silence: Silence | None = None
        self.watcher: asyncio.Task[None] | None = None
        self.connected = asyncio.Event()

    @property
    def peers(self) -> list[Peer | SocketPeer]:
        """The connections that there are: the client's, the viewer's."""
        viewer = None if self.viewer is None else self.viewer.peer
        return [peer for peer in (self.peer, viewer) if peer is not None]

    def send(self, message: ServerMessage) -> None:
        """Sends a control message to everybody."""
        for peer in self.peers:
            peer.send(message)
