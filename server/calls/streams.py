"""Streams: sessions that one client publishes (WHIP) and another one watches (WHEP).

Each of the two has a connection of one direction, as stock clients make them. The publisher names
the stream, holds its place and ends it; one viewer at a time watches.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time

from engine.errors import LipwireError
from server.calls.session import Session, SessionUnknown, Viewer
from server.calls.sessions import Sessions
from server.calls.silence import LOOK_INTERVAL_S, Silence
from server.config import Settings
from server.engine_link.messages import Mode
from server.webrtc.peer import Peer

STREAM_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
LOOKS_A_FIGURE = round(1.0 / LOOK_INTERVAL_S)
RETRY_S = 3  # for who comes too early, or while somebody else is there


class StreamRefused(LipwireError):
    """A stream that cannot be published or watched.

    Attributes:
        status: of the HTTP answer.
        code: short name for programs.
        retry_after_s: when to ask again; None where that would not help.
    """

    def __init__(self, status: int, code: str, message: str, retry_after_s: int | None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s


class Streams:
    """The streams of this gateway, by name."""

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self._sessions = sessions
        self._settings = settings
        self._ids: dict[str, str] = {}  # of sessions; some may have ended
        self._beginning: set[str] = set()

    async def publish(
        self, name: str, offer: str, mode: Mode, avatar: str | None, client: str | None
    ) -> tuple[str, str]:
        """The id of a stream's session, and the answer to its publisher's offer.

        A publisher that has not been heard for a while is replaced, and its session goes on.

        Args:
            client: who publishes, for its limits.

        Raises:
            StreamRefused: no name, or one that somebody publishes under.
            Exception: as `Sessions.begin`, and `Sessions.resume` where the session goes on.
        """
        if not STREAM_NAME.fullmatch(name):
            raise StreamRefused(
                422, "bad_name", "expected a name of 1 to 64 letters, digits, - and _", None
            )
        if name in self._beginning:
            raise _taken()
        self._beginning.add(name)
        try:
            session = self._find(name)
            if session is not None:
                return session.id, await self._go_on(session, offer, mode, avatar)
            id, answer = await self._sessions.begin(offer, mode, avatar, client, "publisher")
            self._ids = {
                known: of for known, of in self._ids.items() if self._find(known) is not None
            }
            self._ids[name] = id
            return id, answer
        finally:
            self._beginning.discard(name)

    async def watch(self, name: str, offer: str) -> tuple[Viewer, str]:
        """A stream's new viewer, and the answer to its offer.

        Raises:
            StreamRefused: nobody publishes it, or somebody watches it already.
            OfferRefused: the offer cannot be answered.
        """
        session = self._find(name)
        if session is None or session.media is None:
            raise StreamRefused(404, "unknown_stream", "nobody publishes that stream", RETRY_S)
        if session.viewer is not None:
            raise StreamRefused(409, "watched", "somebody watches that stream already", RETRY_S)
        peer = self._sessions.viewing_peer(session, lambda _: self._leave(session, viewer))
        viewer = session.viewer = Viewer(secrets.token_hex(16), peer)
        try:
            answer = await self._sessions.answer(session, peer, offer)
        except BaseException:
            self._forget(session, viewer)
            raise
        if self._find(name) is not session or session.viewer is not viewer:
            self._sessions.close_soon(peer)
            raise StreamRefused(404, "unknown_stream", "the stream has ended", RETRY_S)
        session.media.send_to(peer.sound_out, peer.video_out)
        viewer.watcher = asyncio.create_task(self._look(session, viewer), name="viewer-watcher")
        session.log.info("watched")
        return viewer, answer

    def viewer_of(self, name: str, id: str) -> Peer:
        """The connection of a stream's viewer.

        Raises:
            SessionUnknown: there is none of that id.
        """
        return self._viewer(name, id)[1].peer

    def end_viewer(self, name: str, id: str) -> None:
        """Ends a viewer's connection; the stream goes on.

        Raises:
            SessionUnknown: there is none of that id.
        """
        self._leave(*self._viewer(name, id))

    def _find(self, name: str) -> Session | None:
        try:
            return self._sessions.find(self._ids[name])
        except (KeyError, SessionUnknown):
            return None

    def _viewer(self, name: str, id: str) -> tuple[Session, Viewer]:
        session = self._find(name)
        viewer = None if session is None else session.viewer
        if (
            session is None
            or viewer is None
            or not secrets.compare_digest(viewer.id.encode(), id.encode())
        ):
            raise SessionUnknown("there is no such viewer, or its connection has ended")
        return session, viewer

    async def _go_on(self, session: Session, offer: str, mode: Mode, avatar: str | None) -> str:
        """The answer to a publisher that comes back, where the one before it has gone away."""
        silence = session.silence
        silent = silence is not None and silence.longest_s > self._settings.stalled_after_s
        if not silent or (session.mode, session.avatar) != (mode, avatar):
            raise _taken()
        return await self._sessions.resume(session.id, session.resume_token, offer)

    async def _look(self, session: Session, viewer: Viewer) -> None:
        """Lets a viewer go that does not connect in time, or is not heard any more."""
        settings, began, looks = self._settings, time.monotonic(), 0
        silence = Silence(began)
        while True:
            await asyncio.sleep(LOOK_INTERVAL_S)
            now, looks = time.monotonic(), looks + 1
            silence.look(await viewer.peer.packets_received(), now)
            if looks % LOOKS_A_FIGURE == 0:
                viewer.peer.measure()
            never = not viewer.peer.connected and now - began > settings.connect_timeout_s
            if never or silence.left_s(settings.idle_timeout_s) <= 0:
                self._leave(session, viewer)
                return

    def _leave(self, session: Session, viewer: Viewer) -> None:
        if session.viewer is not viewer:
            return
        self._forget(session, viewer)
        if viewer.watcher is not None and viewer.watcher is not asyncio.current_task():
            viewer.watcher.cancel()
        self._sessions.close_soon(viewer.peer)

    def _forget(self, session: Session, viewer: Viewer) -> None:
        if session.viewer is viewer:
            session.viewer = None
            if session.media is not None:
                session.media.send_nowhere()


def _taken() -> StreamRefused:
    return StreamRefused(409, "stream_taken", "somebody publishes under that name", RETRY_S)
