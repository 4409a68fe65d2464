"""All calls of this gateway: begun by an offer, watched, ended for one of many reasons."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastapi import WebSocket, WebSocketDisconnect

from engine.errors import AvatarError
from server.avatars.library import AvatarLibrary
from server.calls.session import Draining, EngineNotReady, Session, SessionUnknown
from server.calls.session_terms import media_limits, ready_message
from server.calls.session_watch import reason_to_end
from server.capacity.places import Places
from server.config import Settings
from server.engine_link.host import EngineHost
from server.engine_link.messages import EngineReady, Mode
from server.media.media_clock import TICKS_PER_MS
from server.media.session_media import SessionMedia
from server.media.source_pictures import ClipPictures, Clips
from server.media.tracks import SoundOut, VideoOut
from server.metrics.counters import Metrics, Transport
from server.protocol import DrainingMessage, ErrorMessage, StartMessage
from server.webrtc.media_network import MediaNetwork
from server.webrtc.peer import Peer
from server.webrtc.rtp_metrics import ConnectionMeter
from server.webrtc.signaling import OfferRefused, Role, check_offer
from server.websocket.socket_peer import SocketPeer

logger = logging.getLogger(__name__)

OpenSocket = Callable[[], Awaitable[tuple[WebSocket, StartMessage]]]

GOING_AWAY = 1001
ANOTHER_SERVER_MS = 3_000  # until another process should be there


class Sessions:
    """Begins, watches and ends calls.

    Attributes:
        draining: no new calls are taken any more.
    """

    def __init__(
        self,
        settings: Settings,
        host: EngineHost,
        library: AvatarLibrary,
        metrics: Metrics,
        places: Places,
        suffix: str = "",
    ) -> None:
        """
        Args:
            suffix: what the ids of these sessions end with.
        """
        self._settings = settings
        self._host = host
        self._library = library
        self._metrics = metrics
        self._places = places
        self._suffix = suffix
        self._network = MediaNetwork(
            settings.udp_ports, settings.media_addresses, settings.public_addresses
        )
        self._clips = Clips()
        self._sessions: dict[str, Session] = {}
        self._endings: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self.draining = False

    @property
    def count(self) -> int:
        return len(self._sessions)

    @property
    def viewers(self) -> int:
        return sum(session.viewer is not None for session in self._sessions.values())

    async def begin(
        self,
        offer: str,
        mode: Mode,
        avatar: str | None,
        client: str | None = None,
        role: Role = "call",
    ) -> tuple[str, str]:
        """The id of a new call and the answer to its offer.

        Args:
            client: who calls, for its limits; None is not limited.
            role: of its connection: "call", or "publisher", whose media somebody else watches.

        Raises:
            OfferRefused: the offer cannot be answered.
            AvatarError: there is no such avatar.
            ServerFull: all places are taken.
            ClientLimited: the client has as many calls as it may have, or asks too often.
            EngineNotReady: no engine runs at the moment.
            Draining: the server is about to end.
        """
        self._refuse_when_draining()
        checked = check_offer(offer, mode, role)
        session, ready = await self._enter(mode, avatar, client, "webrtc", role)
        try:
            answer = await asyncio.wait_for(
                self._answer(session, checked, ready), self._settings.offer_timeout_s
            )
        except TimeoutError:
            await self._end(session, "offer_timeout")
            raise OfferRefused("offer_timeout", "the offer took too long to answer", 408) from None
        except Exception as error:
            await self._end(session, "offer_refused")
            raise _unanswerable(session, error) from error
        except asyncio.CancelledError:
            self._end_soon(session, "offer_cancelled")
            raise
        if session.id not in self._sessions:
            raise OfferRefused("session_ended", "the connection ended while it was answered", 409)
        self._watch_from_now_on(session)
        return session.id, answer

    async def begin_socket(
        self, mode: Mode, avatar: str | None, client: str | None, open_socket: OpenSocket
    ) -> SocketPeer:
        """The server's end of a WebSocket whose call has begun.

        Args:
            open_socket: accepts the connection once there is a place; gives the client's start.

        Raises:
            AvatarError, ServerFull, ClientLimited, EngineNotReady, Draining: as `begin`.
            Exception: what `open_socket` raises.
        """
        self._refuse_when_draining()
        session, ready = await self._enter(mode, avatar, client, "websocket")
        try:
            socket, start = await open_socket()
            if session.id not in self._sessions:
                await socket.close(GOING_AWAY)
                raise WebSocketDisconnect(GOING_AWAY)
            media = session.media = self._media(session, ready)
            if mode == "avatar":
                window = self._settings.audio_window_ms * TICKS_PER_MS
                media.queue_speech(window, lambda message: peer.send(message))
            peer = SocketPeer(
                socket, start, mode, media, session.log, lambda why: self._end_soon(session, why)
            )
            session.peer = peer
        except BaseException:
            self._end_soon(session, "never_connected")
            raise
        peer.send(ready_message(self._settings, ready, session))
        self._connected(session)
        peer.begin()
        self._watch_from_now_on(session)
        return peer

    async def resume(self, id: str, token: str, offer: str) -> str:
        """The answer to the offer of another connection for a call that goes on.

        Place, engine stream and media time stay; the old connection, lost or not, is closed.

        Raises:
            SessionUnknown: there is none of that id and token, or it has ended.
            OfferRefused: the offer cannot be answered; the old connection stays.
        """
        session = self._sessions.get(id)
        if session is None or not secrets.compare_digest(
            session.resume_token.encode(), token.encode()
        ):
            raise SessionUnknown("there is no session of that id and token, or it has ended")
        media, old, ready = session.media, session.peer, self._host.ready
        if (
            media is None
            or not isinstance(old, Peer)
            or ready is None
            or not session.connected.is_set()
        ):
            raise SessionUnknown("the session is not connected yet, there is nothing to resume")
        peer = self._peer(session, media, media.new_tracks(), ready)
        answer = await self.answer(session, peer, offer)
        if session.peer is not old:  # ended, or resumed by another request meanwhile
            self.close_soon(peer)
            raise SessionUnknown("the session has ended, or was resumed over another connection")
        session.peer = peer
        if session.role == "call":
            media.send_to(peer.sound_out, peer.video_out)
        self.close_soon(old)
        self._metrics.resumed.inc()
        session.log.info("resumed over another connection")
        return answer

    async def answer(self, session: Session, peer: Peer, offer: str) -> str:
        """The answer to the offer of one more connection, which is closed where there is none.

        Raises:
            OfferRefused: the offer cannot be answered.
        """
        try:
            checked = check_offer(offer, session.mode, peer.role)
            return await asyncio.wait_for(peer.answer(checked), self._settings.offer_timeout_s)
        except TimeoutError:
            self.close_soon(peer)
            raise OfferRefused("offer_timeout", "the offer took too long to answer", 408) from None
        except Exception as error:
            self.close_soon(peer)
            raise _unanswerable(session, error) from error
        except asyncio.CancelledError:
            self.close_soon(peer)
            raise

    def find(self, id: str) -> Session:
        """The call of that id.

        Raises:
            SessionUnknown: there is none.
        """
        session = self._sessions.get(id)
        if session is None:
            raise SessionUnknown("there is no such session, or it has ended")
        return session

    def peer_of(self, id: str) -> Peer:
        """The present WebRTC connection of a call.

        Raises:
            SessionUnknown: there is no call of that id, or it has no such connection.
        """
        peer = self.find(id).peer
        if not isinstance(peer, Peer):
            raise SessionUnknown("there is no such session, or it has ended")
        return peer

    def viewing_peer(self, session: Session, on_end: Callable[[str], None]) -> Peer:
        """A connection that shows a session to somebody else, once `send_to` gives it the media.

        Args:
            on_end: called with the reason when the viewer is gone.

        Raises:
            SessionUnknown: the session has ended, or the engine is being started again.
        """
        media, ready = session.media, self._host.ready
        if media is None or ready is None:
            raise SessionUnknown("there is no such session, or it has ended")
        peer = self._new_peer(session, media, media.new_tracks(), "viewer", lambda: None, on_end)
        message = replace(ready_message(self._settings, ready, session), resume_token=None)
        peer.greet(lambda: replace(message, epoch_ntp_us=media.epoch_ntp_us))
        return peer

    async def end(self, id: str) -> None:
        """Ends a call.

        Raises:
            SessionUnknown: there is none of that id.
        """
        await self._end(self.find(id), "deleted")

    async def drain(self, timeout_s: float) -> None:
        """Takes no new calls, tells the others, and returns when they have ended or time is up."""
        self.draining = True
        logger.info("draining: %d calls have %.0f s to end", self.count, timeout_s)
        for session in self._sessions.values():
            session.send(DrainingMessage(timeout_s))
        try:
            async with asyncio.timeout(timeout_s):
                while self._sessions:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            logger.warning("draining: %d calls did not end in time", len(self._sessions))

    async def close(self) -> None:
        """Ends all calls, tells their clients so, and waits until nothing of them is left."""
        for session in self._sessions.values():
            session.send(ErrorMessage("draining", "the server ends", True, ANOTHER_SERVER_MS))
        await asyncio.gather(*(self._end(s, "shutdown") for s in list(self._sessions.values())))
        await asyncio.gather(*self._endings, return_exceptions=True)

    def _refuse_when_draining(self) -> None:
        if self.draining:
            raise Draining("this server is about to end and takes no new calls")

    async def _enter(
        self,
        mode: Mode,
        avatar: str | None,
        client: str | None,
        transport: Transport,
        role: Role = "call",
    ) -> tuple[Session, EngineReady]:
        """A new session with its place."""
        largest = (self._settings.max_width, self._settings.max_height)
        if mode == "avatar":
            info = self._library.get(avatar or "")
            largest = (info.width, info.height)
        ready = self._host.ready
        if self._host.state != "ready" or ready is None:
            raise EngineNotReady("the engine is being started again, try in a few seconds")
        session = Session(mode, avatar, largest, self._suffix, transport, role)
        await self._places.enter(session.id, client)
        self._sessions[session.id] = session
        self._metrics.sessions.set(self.count)
        return session, ready

    def _watch_from_now_on(self, session: Session) -> None:
        session.watcher = asyncio.create_task(self._watch(session), name="session-watcher")
        self._metrics.started.labels(session.mode, session.transport).inc()
        session.log.info("begun mode=%s avatar=%s", session.mode, session.avatar)

    async def _answer(self, session: Session, offer: str, ready: EngineReady) -> str:
        media = session.media = self._media(session, ready)
        if session.role == "publisher":
            media.send_nowhere()
        tracks = (media.sound_out, media.video_out)
        peer = session.peer = self._peer(session, media, tracks, ready)
        return await peer.answer(offer)

    def _media(self, session: Session, ready: EngineReady) -> SessionMedia:
        return SessionMedia(
            session.id,
            session.mode,
            session.avatar,
            self._host,
            self._metrics,
            media_limits(self._settings, ready, session.largest),
            session.log,
            self._clip(session),
        )

    def _clip(self, session: Session) -> ClipPictures | None:
        """The clip of the call's avatar; None for a camera, or where it was removed just now."""
        if session.avatar is None or session.mode == "live":
            return None
        try:
            return self._clips.open(self._library.get(session.avatar))
        except (AvatarError, OSError):
            return None  # the engine says why

    def _peer(
        self,
        session: Session,
        media: SessionMedia,
        tracks: tuple[SoundOut, VideoOut],
        ready: EngineReady,
    ) -> Peer:
        """A connection for a call, greeted; its end is the call's unless another took its place."""

        def on_end(reason: str) -> None:
            if session.peer is peer:
                self._end_soon(session, reason)

        def on_connected() -> None:
            self._connected(session)

        peer = self._new_peer(session, media, tracks, session.role, on_connected, on_end)
        message = ready_message(self._settings, ready, session)
        peer.greet(lambda: replace(message, epoch_ntp_us=media.epoch_ntp_us))
        return peer

    def _new_peer(
        self,
        session: Session,
        media: SessionMedia,
        tracks: tuple[SoundOut, VideoOut],
        role: Role,
        on_connected: Callable[[], None],
        on_end: Callable[[str], None],
    ) -> Peer:
        return Peer(
            session.mode,
            media,
            *tracks,
            session.log,
            on_connected=on_connected,
            on_end=on_end,
            meter=ConnectionMeter(self._metrics.rtp, self._metrics.dropped),
            network=self._network,
            role=role,
        )

    def _connected(self, session: Session) -> None:
        if session.media is None:
            return
        if session.connected.is_set():
            session.media.restart_clocks()
            return
        session.connected.set()
        session.media.start()
        took_s = time.monotonic() - session.began
        self._metrics.stages["connect"].observe(took_s)
        session.log.info("connected after %.0f ms", took_s * 1000)

    async def _watch(self, session: Session) -> None:
        """A session's top level: what goes wrong ends this session and no other."""
        try:
            reason = await reason_to_end(session, self._settings, self._places.note_late)
        except Exception:
            session.log.exception("the session's watcher failed")
            reason = "internal_error"
        self._end_soon(session, reason)

    def _end_soon(self, session: Session, reason: str) -> None:
        self._finish_soon(self._end(session, reason))

    def close_soon(self, peer: Peer) -> None:
        """Closes a connection without waiting for it."""
        self._finish_soon(peer.close())

    def _finish_soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="session-ending")
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _end(self, session: Session, reason: str) -> None:
        if self._sessions.pop(session.id, None) is None:
            return
        self._changed.set()
        ended = time.monotonic()
        self._metrics.ended.labels(session.transport, reason).inc()
        self._metrics.lasted.observe(ended - session.began)
        session.log.info("ended reason=%s after %.1f s", reason, ended - session.began)
        try:
            viewer = session.viewer
            for watcher in (session.watcher, viewer.watcher if viewer is not None else None):
                if watcher is not None:
                    watcher.cancel()
                    await asyncio.gather(watcher, return_exceptions=True)
            if session.media is not None:
                session.media.close()
            # What a place stands for is free now; the connection may take seconds to close.
            self._places.leave(session.id)
            await asyncio.gather(*(peer.close() for peer in session.peers))
        except Exception:
            session.log.exception("the session did not end cleanly")
        finally:
            session.media = session.peer = session.viewer = None
            self._places.leave(session.id)
            self._metrics.sessions.set(self.count)
            # A connection of aiortc's is full of cycles, and codecs with their threads hang on
            # them: some milliseconds now, instead of memory until a full collection comes by.
            gc.collect()
            session.log.debug("closed in %.0f ms", (time.monotonic() - ended) * 1000)


def _unanswerable(session: Session, error: Exception) -> OfferRefused:
    """What to say of an offer at which aiortc raised whatever came to hand."""
    if isinstance(error, OfferRefused):
        return error
    # Where, not what: messages of aiortc's quote the offer, its ICE password too.
    where = traceback.extract_tb(error.__traceback__)[-1]
    session.log.warning(
        "offer refused: %s at %s:%d", type(error).__name__, Path(where.filename).name, where.lineno
    )
    return OfferRefused(
        "bad_sdp", "expected an SDP offer with audio and video that can be answered", 400
    )
