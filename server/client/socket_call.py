"""A call over a WebSocket, for voice agents: speech in, sound and pictures out.

async with open_call("http://localhost:8080", avatar="anna", rate_hz=16_000) as call:
    await call.say(samples)  # waits for credit, so a sentence may be given at once
    await call.end_segment()
    async for event in call:  # pictures, sound and messages as they come
        ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from server.client.errors import CallEnded, CallError, ending, refusal
from server.client.patience import once_let_in
from server.media.media_clock import TICK_HZ
from server.protocol import (
    AudioCodec,
    ClientMessage,
    CreditMessage,
    EndMessage,
    ErrorMessage,
    FlushMessage,
    InterruptMessage,
    KeyframeMessage,
    PingMessage,
    RateHz,
    ReadyMessage,
    SegmentEndMessage,
    ServerMessage,
    StartMessage,
    VideoCodec,
    decode_server,
    encode_message,
)
from server.websocket.socket_opus import OpusEncoder
from server.websocket.wire import (
    KEY_FRAME,
    MAX_PACKET_BYTES,
    SUBPROTOCOL,
    US_PER_S,
    Codec,
    Packet,
    PacketType,
    decode_packet,
    encode_packet,
)

I16 = NDArray[np.int16]
Event = Packet | ServerMessage

PIECE_S = 0.02  # sound of one packet
FRAME_US = 40_000
KEEP_ALIVE_S = 5.0  # a call that only listens says that it is there
WAITING_EVENTS = 512  # about five seconds: who iterates slower is let go by the server


class SocketCall:
    """A call that has begun. Iterate it for what comes back.

    Attributes:
        ready: what the server said of the session.
        generation: of the speech that is sent; each interrupt adds one.
    """

    def __init__(
        self, connection: ClientConnection, ready: ReadyMessage, start: StartMessage
    ) -> None:
        self.ready = ready
        self.generation = 0
        self._connection = connection
        self._opus = OpusEncoder() if start.audio == "opus" else None
        self._rate_hz = TICK_HZ if start.audio == "opus" else start.rate_hz
        self._piece = int(PIECE_S * self._rate_hz)
        self._sequences = {PacketType.AUDIO: 0, PacketType.VIDEO: 0}
        self._sent_samples = 0  # of this generation
        self._window_us = ready.limits.audio_window_us
        self._until_us = self._window_us or 0
        self._credit = asyncio.Condition()
        self._events: asyncio.Queue[Event | CallError | None] = asyncio.Queue(WAITING_EVENTS)

    async def say(self, samples: I16) -> bool:
        """Sends speech as fast as the server's credit allows.

        Args:
            samples: int16 [n] at the call's rate; Opus ends with up to 20 ms of silence.

        Returns:
            False if an interrupt made the rest void.

        Raises:
            CallEnded: the call is over.
        """
        generation = self.generation
        for start in range(0, len(samples), self._piece):
            piece = samples[start : start + self._piece]
            count = len(piece) if self._opus is None else self._piece
            end_us = (self._sent_samples + count) * US_PER_S // self._rate_hz
            if not await self._wait_for_credit(generation, end_us):
                return False
            pts_us = self._sent_samples * US_PER_S // self._rate_hz
            self._sent_samples += count
            if self._opus is None:
                codec, lasts_us = Codec.PCM16, count * US_PER_S // self._rate_hz
                payload = np.asarray(piece, "<i2").tobytes()
            else:
                codec, (payload, lasts_us) = Codec.OPUS, self._opus.encode_samples(piece)
            await self._send_packet(PacketType.AUDIO, codec, pts_us, lasts_us, payload)
        return True

    async def _wait_for_credit(self, generation: int, end_us: int) -> bool:
        """Whether the generation still counts when sound up to `end_us` may be sent."""
        if self._window_us is None:
            return True

        def is_decided() -> bool:
            return self.generation != generation or end_us <= self._until_us

        async with self._credit:
            await self._credit.wait_for(is_decided)
        return self.generation == generation

    async def end_segment(self) -> None:
        """The utterance is complete: `playback.finished` will follow when it has left."""
        await self._send(SegmentEndMessage())

    async def flush(self) -> None:
        """Plays what was sent without waiting for more."""
        await self._send(FlushMessage())

    async def interrupt(self) -> int:
        """Voids everything said so far; the new generation."""
        async with self._credit:
            self.generation += 1
            self._sent_samples = 0
            self._until_us = self._window_us or 0
            self._credit.notify_all()
        await self._send(InterruptMessage())
        return self.generation

    async def show(self, coded: bytes, pts_us: int, codec: VideoCodec = "jpeg") -> None:
        """Sends a camera's picture, in live mode."""
        number = Codec.JPEG if codec == "jpeg" else Codec.H264
        await self._send_packet(PacketType.VIDEO, number, pts_us, FRAME_US, coded)

    async def request_key_frame(self) -> None:
        """Asks for a picture that needs no other."""
        await self._send(KeyframeMessage())

    async def ping(self, t: float | str) -> None:
        """Asks for a `pong` with `t`."""
        await self._send(PingMessage(t))

    async def hang_up(self) -> None:
        """Ends the call; what is left of it can still be iterated."""
        await self._send(EndMessage())

    async def until(self, condition: Callable[[Event], bool]) -> Event:
        """The next event that fulfils a condition; those before it are dropped.

        Raises:
            CallEnded: the call ended first.
        """
        async for event in self:
            if condition(event):
                return event
        raise CallEnded("the call ended before what was waited for")

    async def __aiter__(self) -> AsyncIterator[Event]:
        """What comes back, until the call ends.

        Raises:
            CallEnded: it ended otherwise than by `hang_up`.
        """
        while (event := await self._events.get()) is not None:
            if isinstance(event, CallError):
                raise event
            yield event

    async def _send(self, message: ClientMessage) -> None:
        try:
            await self._connection.send(encode_message(message))
        except ConnectionClosed as error:
            raise CallEnded(f"the call has ended: {error}") from error

    async def _send_packet(
        self, type_: PacketType, codec: Codec, pts_us: int, lasts_us: int, payload: bytes
    ) -> None:
        sequence = self._sequences[type_]
        self._sequences[type_] += 1
        flags = KEY_FRAME if codec is Codec.JPEG else 0
        packet = Packet(type_, codec, self.generation, sequence, pts_us, lasts_us, payload, flags)
        try:
            await self._connection.send(encode_packet(packet))
        except ConnectionClosed as error:
            raise CallEnded(f"the call has ended: {error}") from error

    async def _read(self) -> None:
        """Moves what comes to whom it concerns, until the connection closes."""
        problem: CallError | None = None
        try:
            async for data in self._connection:
                event = decode_server(data) if isinstance(data, str) else decode_packet(data)
                if isinstance(event, CreditMessage):
                    await self._take_credit(event)
                if isinstance(event, ErrorMessage) and event.fatal:
                    problem = ending(event)
                await self._events.put(event)
        except ConnectionClosed as error:
            problem = problem or CallEnded(f"the call has ended: {error}")
        await self._events.put(problem)

    async def _take_credit(self, credit: CreditMessage) -> None:
        async with self._credit:
            if credit.generation == self.generation:
                self._until_us = max(self._until_us, credit.until_us)
                self._credit.notify_all()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(KEEP_ALIVE_S)
            await self._send(PingMessage(None))


@asynccontextmanager
async def open_call(
    url: str,
    *,
    avatar: str | None = None,
    mode: Literal["avatar", "live"] = "avatar",
    audio: AudioCodec = "pcm16",
    rate_hz: RateHz = 48_000,
    video: VideoCodec = "jpeg",
    headers: dict[str, str] | None = None,
    patience_s: float = 0.0,
) -> AsyncIterator[SocketCall]:
    """A call for the time of a `with` block.

    Args:
        url: of the server, such as `http://localhost:8080`.
        audio: how sound travels both ways; `server.websocket.socket_opus.OpusDecoder` decodes Opus.
        rate_hz: of the speech that is given and of the sound that comes back; of Opus 48,000.
        headers: more HTTP headers, a token for one.
        patience_s: for how long to ask again, when the server says so, where it takes no call.

    Raises:
        CallRefused: the server does not take the call.
        CallEnded: it ended before it had begun.
    """
    query = {"mode": mode} | ({"avatar": avatar} if avatar else {})
    address = f"{url.rstrip('/').replace('http', 'ws', 1)}/v1/media?{urlencode(query)}"
    connection = await once_let_in(lambda: _connect(address, headers), patience_s)
    tasks: list[asyncio.Task[Any]] = []
    try:
        try:
            start = StartMessage(audio, rate_hz, video)
            await connection.send(encode_message(start))
            first = decode_server(await connection.recv(decode=True))
        except ConnectionClosed as error:
            raise CallEnded(f"the call ended before it had begun: {error}") from error
        if not isinstance(first, ReadyMessage):
            raise CallEnded(f"expected session.ready, got {first}")
        call = SocketCall(connection, first, start)
        tasks = [asyncio.create_task(call._read()), asyncio.create_task(call._keep_alive())]
        yield call
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await connection.close()


async def _connect(address: str, headers: dict[str, str] | None) -> ClientConnection:
    try:
        return await connect(
            address,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            max_size=MAX_PACKET_BYTES,
            additional_headers=headers,
        )
    except InvalidStatus as error:
        answer = error.response
        retry = answer.headers.get("Retry-After")
        raise refusal(answer.status_code, answer.body or b"", retry) from error
