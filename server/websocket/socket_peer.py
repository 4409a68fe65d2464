"""One WebSocket: packets in, what playout releases out, control messages both ways.

It is to a session what `server.webrtc.peer.Peer` is over WebRTC. Sound and pictures leave with
their pts on the one media clock, and with the generation that they were released in: what
an interrupt has made void meanwhile is dropped here too. A client that reads too slowly for both
gets all of the sound and as many pictures as there is room for; one that does not even read the
sound is let go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from aiortc.mediastreams import MediaStreamError
from fastapi import WebSocket, WebSocketDisconnect
from starlette.websockets import WebSocketState

from server.engine_link.messages import Mode
from server.logs import SessionLog
from server.media.av_frames import VIDEO_CLOCK_HZ
from server.media.media_clock import FRAME_TICKS, TICK_HZ, TICKS_PER_MS
from server.media.session_media import SessionMedia
from server.media.speech_queue import AudioOverrun, to_us
from server.message_rate import SocketRate
from server.protocol import (
    CreditMessage,
    EndMessage,
    ErrorMessage,
    FlushMessage,
    InterruptedMessage,
    InterruptMessage,
    KeyframeMessage,
    PingMessage,
    PongMessage,
    ProtocolError,
    SegmentEndMessage,
    ServerMessage,
    StartMessage,
    decode_client,
    encode_message,
)
from server.websocket.socket_codecs import (
    PictureDecoder,
    picture_encoder,
    sound_decoder,
    sound_encoder,
)
from server.websocket.wire import US_PER_S, Codec, Packet, PacketType, decode_packet, encode_packet

SEND_TIMEOUT_S = 1.0  # a client that reads slower than this is let go
CLOSE_TIMEOUT_S = 1.0
MAX_WAITING_MESSAGES = 64
CREDIT_STEPS = 5  # credit is told when it has grown by this part of the window
CAMERA_BACKLOG = 8  # packets that may wait for the decoder
NORMAL, POLICY_VIOLATION = 1000, 1008


class SocketPeer:
    """The server's end of one session's WebSocket, accepted and begun.

    Args:
        on_end: called with the reason when the client is gone or let go.
    """

    def __init__(
        self,
        socket: WebSocket,
        start: StartMessage,
        mode: Mode,
        media: SessionMedia,
        log: SessionLog,
        on_end: Callable[[str], None],
    ) -> None:
        self._socket = socket
        self._start = start
        self._mode = mode
        self._media = media
        self._log = log
        self._on_end = on_end
        self.sound_out, self.video_out = media.sound_out, media.video_out
        self._sound_sent = asyncio.Event()
        self._decoder = sound_decoder(start)
        window = media.speech.until if media.speech is not None else 0
        self._rate = SocketRate(window // TICKS_PER_MS)
        self._messages: asyncio.Queue[ServerMessage] = asyncio.Queue(MAX_WAITING_MESSAGES)
        self._camera: asyncio.Queue[Packet] = asyncio.Queue(CAMERA_BACKLOG)
        self._tasks: list[asyncio.Task[None]] = []
        self._received = 0
        self._code = NORMAL
        self._key_frame = True
        self._closed = False
        self._leaving = False
        self._over = asyncio.Event()

    def begin(self) -> None:
        """Starts to send."""
        work = [self._send_sound(), self._send_pictures(), self._send_messages()]
        if self._mode == "live":
            work.append(self._decode_camera())
        self._tasks = [asyncio.create_task(self._guard(part)) for part in work]

    async def run(self) -> None:
        """Reads until the client is gone or the session has ended."""
        over = asyncio.create_task(self._over.wait())
        try:
            while not over.done():
                receiving = asyncio.create_task(self._receive())
                await asyncio.wait({receiving, over}, return_when=asyncio.FIRST_COMPLETED)
                if not receiving.done():
                    receiving.cancel()
                    await asyncio.gather(receiving, return_exceptions=True)
                elif not receiving.result():
                    self._on_end("client")
                    return
        finally:
            over.cancel()

    async def _receive(self) -> bool:
        """Takes one message; false when there are no more."""
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            return False
        self._received += 1
        if not self._closed and not self._leaving:
            try:
                self._take(message.get("text"), message.get("bytes"))
            except Exception:  # noqa: BLE001 (a session's top level: logged, and ended)
                self._log.exception("a message could not be taken")
                self._on_end("media_error")
        return True

    def send(self, message: ServerMessage) -> None:
        """Sends a control message; lets a client go that leaves too many unread."""
        try:
            self._messages.put_nowait(message)
        except asyncio.QueueFull:
            self._let_go("slow_reader")

    async def packets_received(self) -> int:
        """Messages of any kind that came from the client so far."""
        return self._received

    async def close(self) -> None:
        """Ends the connection and every task of it."""
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                while not self._messages.empty():  # what the client should know last
                    await self._socket.send_text(encode_message(self._messages.get_nowait()))
                await self._socket.close(self._code)
        except (TimeoutError, RuntimeError, WebSocketDisconnect):
            self._log.debug("the socket was gone before it was closed")
        finally:
            self._over.set()

    # --- in ------------------------------------------------------------------

    def _take(self, text: str | None, data: bytes | None) -> None:
        excess = self._rate.excess(text, data)
        if excess is not None:
            self.send(ErrorMessage("too_many", excess, True, self._rate.full_in_ms))
            self._let_go("flood")
            return
        try:
            if text is not None:
                self._take_message(text)
            elif data is not None:
                self._take_packet(decode_packet(data))
        except ProtocolError as error:
            self.send(ErrorMessage(error.code, str(error)))
        except AudioOverrun as error:
            self.send(ErrorMessage("audio_overrun", str(error), fatal=True))
            self._let_go("audio_overrun")

    def _take_message(self, text: str) -> None:
        media, speech = self._media, self._media.speech
        match decode_client(text):
            case PingMessage(t):
                self.send(PongMessage(t))
            case InterruptMessage():
                self.send(InterruptedMessage(media.interrupt()))
                self._tell_credit()
            case SegmentEndMessage():
                if speech is not None:
                    speech.end_segment()
            case FlushMessage():
                if speech is not None:
                    speech.flush()
            case KeyframeMessage():
                self._key_frame = True
            case EndMessage():
                self._on_end("client")
            case StartMessage():
                self.send(ErrorMessage("unexpected", "expected session.start only once"))

    def _take_packet(self, packet: Packet) -> None:
        if packet.generation > self._media.generation:
            raise ProtocolError(
                "bad_packet",
                f"expected generation {self._media.generation}, got {packet.generation}",
            )
        if packet.type is PacketType.VIDEO:
            if self._mode == "avatar":
                raise ProtocolError("bad_packet", "expected no pictures in avatar mode")
            if self._camera.full():
                raise ProtocolError("camera_overrun", "expected 25 pictures a second, not more")
            self._camera.put_nowait(packet)
        elif packet.generation == self._media.generation:  # older speech is void
            if self._media.speech is not None:
                self._media.push_speech(self._decoder.decode(packet))
            else:
                self._media.push_sound(self._decoder.decode_timed(packet))

    async def _decode_camera(self) -> None:
        decoder = PictureDecoder()
        while True:
            packet = await self._camera.get()
            try:
                frames = await asyncio.to_thread(decoder.decode, packet)
            except ProtocolError as error:
                self.send(ErrorMessage(error.code, str(error)))
                continue
            for frame in frames:
                self._media.push_camera(frame)

    # --- out -----------------------------------------------------------------

    async def _send_sound(self) -> None:
        encoder, sequence = sound_encoder(self._start), 0
        window = self._media.speech.until if self._media.speech is not None else 0
        told = (0, window)
        while True:
            if not self.sound_out.waiting:
                self._sound_sent.set()
            frame = await self.sound_out.recv()
            self._sound_sent.clear()
            generation = self._media.generation
            payload, lasts_us = encoder.encode(frame)
            if payload:
                await self._send_packet(
                    Packet(
                        PacketType.AUDIO,
                        encoder.codec,
                        generation,
                        sequence,
                        to_us(frame.pts or 0),
                        lasts_us,
                        payload,
                    )
                )
                sequence += 1
            speech = self._media.speech
            if speech is not None:
                credit = (speech.generation, speech.until)
                grown = credit[1] - told[1]
                if credit[0] != told[0] or grown >= window // CREDIT_STEPS:
                    told = credit
                    self._tell_credit()

    def _tell_credit(self) -> None:
        speech = self._media.speech
        if speech is not None:
            self.send(CreditMessage(speech.generation, to_us(speech.until)))

    async def _send_pictures(self) -> None:
        encode, sequence = picture_encoder(self._start.video), 0
        codec = Codec.JPEG if self._start.video == "jpeg" else Codec.H264
        while True:
            await self._sound_sent.wait()  # meanwhile the oldest pictures give way
            frame = await self.video_out.recv()
            generation = self._media.generation
            key_frame, self._key_frame = self._key_frame, False
            payload, flags = await asyncio.to_thread(encode, frame, key_frame)
            if generation != self._media.generation:
                # Void since it was handed to the encoder. H.264 goes on from a picture that the
                # client has not got: the next one must not need it.
                self._key_frame = True
                if not self.video_out.waiting:
                    self._media.rest_in_place_of(frame)
                continue
            pts = (frame.pts or 0) * US_PER_S // VIDEO_CLOCK_HZ
            lasts = FRAME_TICKS * US_PER_S // TICK_HZ
            await self._send_packet(
                Packet(PacketType.VIDEO, codec, generation, sequence, pts, lasts, payload, flags)
            )
            sequence += 1

    async def _send_messages(self) -> None:
        while True:
            message = await self._messages.get()
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._socket.send_text(encode_message(message))

    async def _send_packet(self, packet: Packet) -> None:
        data = encode_packet(packet)
        async with asyncio.timeout(SEND_TIMEOUT_S):
            await self._socket.send_bytes(data)

    def _let_go(self, reason: str) -> None:
        self._leaving = True
        self._code = POLICY_VIOLATION
        self._on_end(reason)

    async def _guard(self, work: Coroutine[Any, Any, None]) -> None:
        """A session's top level: what goes wrong ends this session and no other."""
        try:
            await work
        except (MediaStreamError, WebSocketDisconnect):
            return  # the session or the client is gone; the reader tells the rest
        except TimeoutError:
            self._let_go("slow_reader")
        except Exception:  # noqa: BLE001 (a session's top level: logged, and ended)
            gone = self._socket.application_state is WebSocketState.DISCONNECTED
            if not self._closed and not gone:  # another task's send found the client gone
                self._log.exception("media failed")
                self._on_end("media_error")
