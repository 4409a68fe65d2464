"""One WebRTC connection: negotiation, incoming tracks, the control channel, its end.

aiortc can raise from `close()`, never gives up connecting by itself and
notices a killed peer after 30 s; this is where that is put right.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError
from aiortc.sdp import candidate_from_sdp
from aiortc.stats import RTCStatsReport
from av import AudioFrame, VideoFrame

from server.engine_link.messages import Mode
from server.logs import SessionLog
from server.media.session_media import SessionMedia
from server.media.tracks import SoundOut, VideoOut
from server.message_rate import BURST_MESSAGES, MessageRate
from server.protocol import (
    CHANNEL,
    EndMessage,
    ErrorMessage,
    InterruptedMessage,
    InterruptMessage,
    PingMessage,
    PongMessage,
    ProtocolError,
    ServerMessage,
    StartMessage,
    decode_client,
    encode_message,
)
from server.webrtc.datagram_guard import DatagramGuard
from server.webrtc.media_network import MediaNetwork
from server.webrtc.rtp_metrics import ConnectionMeter
from server.webrtc.signaling import OfferRefused, Role, tune_answer
from server.webrtc.trickle import IceFragment

CLOSE_TIMEOUT_S = 5.0
CHECKS_END_S = (
    0.025  # aioice paces its ICE checks by 20 ms, and its connecting task ends at the next one
)
MAX_REFUSED_CHANNELS = 8  # each costs memory until the call ends
CHANNEL_BACKLOG_BYTES = 65_536  # a client that reads nothing gets no more messages
MAX_TRICKLED = 40  # candidates after the offer: each costs a check


class Peer:
    """The server's end of one session's connection.

    Args:
        sound_out, video_out: what this connection sends; a publisher's sends nothing.
        on_connected: called once, when media may flow.
        on_end: called with the reason when the peer is gone.
        meter: counts the connection's packets.
        network: where its media goes; None: wherever the system says.
        role: what it does for its session.

    Attributes:
        etag: names its ICE session, as `ETag` has it.
    """

    def __init__(
        self,
        mode: Mode,
        media: SessionMedia,
        sound_out: SoundOut,
        video_out: VideoOut,
        log: SessionLog,
        on_connected: Callable[[], None],
        on_end: Callable[[str], None],
        meter: ConnectionMeter | None = None,
        network: MediaNetwork | None = None,
        role: Role = "call",
    ) -> None:
        self.role: Role = role
        self._mode = mode
        self._media = media
        self.sound_out = sound_out
        self.video_out = video_out
        self._log = log
        self._on_connected = on_connected
        self._on_end = on_end
        self._meter = meter
        self._network = network or MediaNetwork()
        self.etag = f'"{secrets.token_hex(8)}"'
        self._usernames: frozenset[str] = frozenset()
        self._trickled = 0
        self._ports = DatagramGuard()
        self._report = RTCStatsReport()
        self._unread = 0
        self._refused_channels = 0
        self._channel: RTCDataChannel | None = None
        self._greeting: Callable[[], ServerMessage] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._rate = MessageRate()
        # The default STUN server stalls a machine without internet.
        self._connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._connection.on("connectionstatechange", self._on_state)
        self._connection.on("track", self._on_track)
        self._connection.on("datachannel", self._on_channel)

    @property
    def connected(self) -> bool:
        return self._connection.connectionState == "connected"

    async def answer(self, offer: str) -> str:
        """The SDP answer to a checked offer.

        Raises:
            OfferRefused: no UDP port is free.
            Exception: whatever aiortc makes of an offer that it cannot use.
        """
        connection = self._connection
        self._usernames = frozenset(re.findall(r"^a=ice-ufrag:(\S+)", offer, re.MULTILINE))
        await connection.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        transceivers = connection.getTransceivers()
        if self.role != "publisher":
            offered = {transceiver.kind for transceiver in transceivers}
            for track in (self.sound_out, self.video_out):
                if track.kind in offered:
                    connection.addTrack(track)
        for transceiver in transceivers:
            if self.role == "viewer":
                transceiver.direction = "sendonly"
            elif transceiver.kind == "video" and self._mode == "avatar":
                # A camera would be decoded for nothing.
                transceiver.direction = "inactive" if self.role == "publisher" else "sendonly"
        self._ports = self._network.prepare(connection, lambda: self._on_end("flood"))
        await connection.setLocalDescription(await connection.createAnswer())
        return self._network.announce(tune_answer(connection.localDescription.sdp))

    async def add_candidates(self, fragment: IceFragment) -> None:
        """Takes candidates that come after the offer.

        Raises:
            OfferRefused: they are of another ICE session or of no media line, or too many.
        """
        if fragment.usernames - self._usernames:
            raise OfferRefused(
                "ice_restart", "expected candidates of the offer; ICE restarts are not served"
            )
        mids = [transceiver.mid for transceiver in self._connection.getTransceivers()]
        if self._connection.sctp is not None:
            mids.append(self._connection.sctp.mid)
        if not {candidate.mid for candidate in fragment.candidates} <= {None, *mids}:
            raise OfferRefused("bad_fragment", "expected mids of the offer", 400)
        self._trickled += len(fragment.candidates)
        if self._trickled > MAX_TRICKLED:
            raise OfferRefused("candidates", f"expected at most {MAX_TRICKLED} more candidates")
        for trickled in fragment.candidates:
            candidate = candidate_from_sdp(trickled.line)
            candidate.sdpMid = mids[0] if trickled.mid is None else trickled.mid
            await self._connection.addIceCandidate(candidate)
        if fragment.ends:
            await self._connection.addIceCandidate(None)

    def greet(self, greeting: Callable[[], ServerMessage]) -> None:
        """Sends what `greeting` gives as the first message, when the channel opens."""
        self._greeting = greeting

    def send(self, message: ServerMessage) -> None:
        """Sends a control message; drops it when there is no channel or the client reads none."""
        channel = self._channel
        if channel is None or channel.readyState != "open":
            return
        if channel.bufferedAmount < CHANNEL_BACKLOG_BYTES:
            channel.send(encode_message(message))
        else:
            self._unread += 1

    async def packets_received(self) -> int:
        """Packets of any kind that came from the peer so far."""
        self._report = report = await self._connection.getStats()
        return sum(stats.packetsReceived for stats in report.values() if stats.type == "transport")

    def measure(self) -> None:
        """Counts what the last look at the packets found."""
        if self._meter is not None:
            self._meter.read(self._connection, self._report, self._unread, self._ports)

    async def close(self) -> None:
        """Ends the connection and every task of it, even where aiortc fails to."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        checking = self._connection.iceConnectionState == "checking"
        try:
            await asyncio.wait_for(self._connection.close(), CLOSE_TIMEOUT_S)
        except Exception:  # noqa: BLE001 (a session's top level: logged, and the rest goes on)
            self._log.exception("the connection did not close cleanly")
            await self._force_close()
        if checking:
            await asyncio.sleep(CHECKS_END_S)

    async def _force_close(self) -> None:
        """Stops the transports one by one, so that no socket stays open."""
        connection = self._connection
        transports = [
            transceiver.receiver.transport for transceiver in connection.getTransceivers()
        ]
        if connection.sctp is not None:
            transports.append(connection.sctp.transport)
        for transport in transports:
            if transport is not None:  # an offer can leave a media line without one
                await asyncio.gather(
                    transport.stop(), transport.transport.stop(), return_exceptions=True
                )

    # --- events of aiortc --------------------------------------------------------

    def _on_state(self) -> None:
        state = self._connection.connectionState
        self._log.debug("connection %s", state)
        if state == "connected":
            self._on_connected()
        elif state in ("failed", "closed") and not self._closed:
            self._on_end(state)

    def _on_track(self, track: MediaStreamTrack) -> None:
        if track.kind == "audio":
            self._spawn(self._read_sound(track))
        elif self._mode == "live":
            self._spawn(self._read_camera(track))

    def _on_channel(self, channel: RTCDataChannel) -> None:
        if channel.label != CHANNEL or self._channel is not None:
            self._log.warning("unexpected data channel closed")
            channel.close()
            self._refused_channels += 1
            if self._refused_channels > MAX_REFUSED_CHANNELS:
                self._on_end("flood")
            return
        self._channel = channel
        channel.on("message", self._on_message)
        if self._greeting is not None:
            self.send(self._greeting())

    def _on_message(self, data: str | bytes) -> None:
        if not self._rate.allows():
            expected = f"expected at most {BURST_MESSAGES} control messages at once"
            self.send(ErrorMessage("too_many", expected, True, self._rate.full_in_ms))
            self._on_end("flood")
            return
        try:
            message = decode_client(data)
        except ProtocolError as error:
            self.send(ErrorMessage(error.code, str(error)))
            return
        match message:
            case PingMessage():
                self.send(PongMessage(message.t))
            case InterruptMessage() if self.role == "viewer":
                self.send(ErrorMessage("unexpected", "expected who speaks to interrupt"))
            case InterruptMessage():
                self.send(InterruptedMessage(self._media.interrupt(captured=True)))
            case EndMessage():
                self._on_end("client")
            case StartMessage():
                expected = "expected session.start on a WebSocket only"
                self.send(ErrorMessage("unexpected", expected))

    async def _read_sound(self, track: MediaStreamTrack) -> None:
        while True:
            frame = await track.recv()
            if isinstance(frame, AudioFrame):
                self._media.push_sound(frame)

    async def _read_camera(self, track: MediaStreamTrack) -> None:
        while True:
            frame = await track.recv()
            if isinstance(frame, VideoFrame):
                self._media.push_camera(frame)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """A session's top level: what goes wrong ends this session and no other."""
        try:
            await work
        except MediaStreamError:
            return  # the track ended; the connection's state tells the rest
        except Exception:  # noqa: BLE001 (a session's top level: logged, and ended)
            self._log.exception("media failed")
            self._on_end("media_error")
