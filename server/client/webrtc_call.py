"""A call over WebRTC: a microphone's sound and perhaps a camera out, sound and pictures back.

async with open_call("http://localhost:8080", avatar="anna") as call:
    speaking = asyncio.create_task(call.say(samples))  # at the speed of speech
    async for event in call:  # pictures, sound and messages as they come
        ...

A call whose connection is lost goes on over another one by itself, for as long as the server
keeps it: `session.ready` comes once more, with `resumed`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Literal

import httpx
from aiortc import MediaStreamTrack, RTCConfiguration, RTCIceServer

from server.client.capture import I16, CameraSource, Microphone, open_camera
from server.client.errors import CallEnded, CallError, CallRefused, ending, refusal
from server.client.patience import once_let_in
from server.client.webrtc_connection import (
    Connection,
    Received,
    ReceivedPicture,
    ReceivedSound,
)
from server.protocol import (
    ClientMessage,
    EndMessage,
    ErrorMessage,
    InterruptMessage,
    PingMessage,
    ReadyMessage,
    Stats,
)

SDP = "application/sdp"
CONNECT_TIMEOUT_S = 15.0
HTTP_TIMEOUT_S = 30.0
LOST_AFTER_S = 3.0  # the server sends 50 packets of sound a second, silence too
RETRY_S = 1.0
WAITING_EVENTS = 512  # about seven seconds: who iterates slower misses sound and pictures


class WebRtcCall:
    """A call that has begun. Iterate it for what comes back.

    Attributes:
        connection: the present one.
        location: path of the session on the server.
        called_at: `time.monotonic` when the offer was sent.
        stats: the server's newest figures.
        dropped: sound and pictures that nobody fetched in time.
    """

    def __init__(
        self,
        url: str,
        http: httpx.AsyncClient,
        microphone: MediaStreamTrack | None,
        camera: MediaStreamTrack | None,
        configuration: RTCConfiguration,
        *,
        resume: bool,
    ) -> None:
        self.location = ""
        self.called_at = 0.0
        self.stats: Stats | None = None
        self.dropped = 0
        self._url, self._http = url, http
        self._microphone, self._camera = microphone, camera
        self._configuration = configuration
        self._resumes = resume
        self._ready: ReadyMessage | None = None
        self._readiness: asyncio.Future[None] | None = None  # while a connection is made
        self._resuming = asyncio.Lock()
        self._lost = asyncio.Event()
        self._events: deque[Received] = deque()
        self._changed = asyncio.Event()
        self._over = False
        self._problem: CallError | None = None
        self.connection = self._new_connection()

    @property
    def ready(self) -> ReadyMessage:
        """What the server said of the session, last when the call was resumed."""
        if self._ready is None:
            raise CallError("the call has not begun")
        return self._ready

    async def say(self, samples: I16) -> bool:
        """Says samples at the speed of speech; returns when the last of them has left.

        Args:
            samples: int16 [n] at 48 kHz.

        Returns:
            False if an interrupt made the rest void.

        Raises:
            CallError: the call only listens, or sends a track that was given.
            CallEnded: the call is over.
        """
        if not isinstance(self._microphone, Microphone):
            raise CallError("expected a call that speaks by `say`, this one was given its sound")
        left = await self._microphone.say(samples)
        if self._over:
            raise self._problem or CallEnded("the call has ended")
        return left

    async def interrupt(self) -> None:
        """Voids everything said so far; `interrupted` comes when that is in force."""
        if isinstance(self._microphone, Microphone):
            self._microphone.drop()
        self.send(InterruptMessage())

    async def ping(self, t: float | str) -> None:
        """Asks for a `pong` with `t`."""
        self.send(PingMessage(t))

    async def hang_up(self) -> None:
        """Ends the call; what is left of it can still be iterated."""
        self._end(None)
        self.send(EndMessage())

    def send(self, message: ClientMessage) -> None:
        """Sends a control message."""
        self.connection.send(message)

    async def resume(self) -> None:
        """Goes on over another connection, with the session's place and media time.

        Raises:
            CallRefused: the server does not have the call any more, or cannot answer at the moment.
            CallEnded: the new connection came to nothing.
            httpx.TransportError: the server cannot be reached.
        """
        async with self._resuming:
            before, after = self.connection, self._new_connection()
            before.mute()
            if isinstance(self._microphone, Microphone):
                self._microphone.hold()
            token = {"resume-token": self.ready.resume_token or ""}
            try:
                await self._negotiate(after, f"{self.location}/resume", {}, token)
            except BaseException:
                before.unmute()  # it may have come back
                await after.close()
                raise
            self.connection = after
            await before.close()

    async def until(self, condition: Callable[[Received], bool]) -> Received:
        """The next event that fulfils a condition; those before it are dropped.

        Raises:
            CallEnded: the call ended first.
        """
        async for event in self:
            if condition(event):
                return event
        raise CallEnded("the call ended before what was waited for")

    async def __aiter__(self) -> AsyncIterator[Received]:
        """What comes back, until the call ends.

        Raises:
            CallEnded: it ended otherwise than by `hang_up`.
        """
        while True:
            while self._events:
                yield self._events.popleft()
            if self._over:
                break
            self._changed.clear()
            await self._changed.wait()
        if self._problem is not None:
            raise self._problem

    async def begin(self, query: dict[str, str]) -> None:
        """Calls; returns when `session.ready` has come."""
        await self._negotiate(self.connection, "/v1/sessions", query, {})

    async def keep(self) -> None:
        """Resumes the call whenever its connection is lost, until it is over."""
        while not self._over:
            silent_s = time.monotonic() - self.connection.heard_at
            if silent_s < LOST_AFTER_S and not self.connection.over:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._lost.wait(), LOST_AFTER_S - silent_s)
                continue
            self._lost.clear()
            try:
                await self._resume_within(self.ready.limits.resume_within_s - silent_s)
            except CallError as error:
                self._end(CallEnded(f"the connection was lost, and the call with it: {error}"))

    async def delete(self) -> None:
        """Ends the call by HTTP, which reaches the server even where the connection is lost."""
        if not self._over:
            self._end(None)
            with suppress(httpx.TransportError):  # the server will notice by itself
                await self._http.delete(self._url + self.location)

    async def close(self) -> None:
        """Closes the connection, which ends the call."""
        self._end(None)
        await self.connection.close()

    async def _resume_within(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._over:
            wait_s = RETRY_S
            try:
                return await self.resume()
            except (httpx.TransportError, CallError) as error:
                gone = False
                if isinstance(error, CallRefused):
                    gone = error.status == httpx.codes.NOT_FOUND
                    wait_s = error.retry_after_s or RETRY_S
                if gone or time.monotonic() + wait_s > deadline:
                    raise CallEnded(str(error)) from error
            await asyncio.sleep(wait_s)

    async def _negotiate(
        self, connection: Connection, path: str, query: dict[str, str], headers: dict[str, str]
    ) -> None:
        """An offer, its answer, and the wait for `session.ready`."""
        offer = await connection.offer()
        self.called_at = time.monotonic()
        response = await self._http.post(
            self._url + path, params=query, content=offer, headers={"content-type": SDP, **headers}
        )
        if response.status_code != httpx.codes.CREATED:
            retry = response.headers.get("retry-after")
            raise refusal(response.status_code, response.content, retry)
        self.location = response.headers["location"]
        self._readiness = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await connection.accept(response.text)
                await self._readiness
        except TimeoutError:
            raise CallEnded(f"not connected after {CONNECT_TIMEOUT_S:.0f} s") from None
        finally:
            self._readiness.cancel()
            self._readiness = None

    def _new_connection(self) -> Connection:
        def on_over() -> None:
            problem = self._problem or CallEnded("the server or the network ended the call")
            if self._resuming.locked():
                if connection is not self.connection:
                    self._settle(problem)
            elif connection is self.connection:
                if self._resumes and self._ready is not None and self._problem is None:
                    self._lost.set()  # or it was ended: the server will say so
                else:
                    self._end(problem)

        connection = Connection(
            self._microphone, self._camera, self._configuration, self._take, on_over
        )
        return connection

    def _take(self, event: Received) -> None:
        match event:
            case ReadyMessage():
                self._ready = event
                self._settle(None)
            case Stats():
                self.stats = event
            case ErrorMessage(fatal=True):
                self._problem = ending(event)
        self._events.append(event)
        if len(self._events) > WAITING_EVENTS:
            self._drop_oldest_media()
        self._changed.set()

    def _settle(self, problem: CallError | None) -> None:
        """Tells who waits for `session.ready` that it has come, or why it will not."""
        if self._readiness is None or self._readiness.done():
            return
        if problem is None:
            self._readiness.set_result(None)
        else:
            self._readiness.set_exception(problem)

    def _drop_oldest_media(self) -> None:
        for index, event in enumerate(self._events):
            if isinstance(event, ReceivedSound | ReceivedPicture):
                del self._events[index]
                self.dropped += 1
                return

    def _end(self, problem: CallError | None) -> None:
        if self._over:
            return
        self._over = True
        self._problem = self._problem or problem
        self._settle(self._problem or CallEnded("the call has ended"))
        if isinstance(self._microphone, Microphone):
            self._microphone.drop()
        self._changed.set()


@asynccontextmanager
async def open_call(
    url: str,
    *,
    avatar: str | None = None,
    mode: Literal["avatar", "live"] = "avatar",
    sound: MediaStreamTrack | None = None,
    camera: CameraSource | None = None,
    listen_only: bool = False,
    resume: bool = True,
    headers: dict[str, str] | None = None,
    http: httpx.AsyncClient | None = None,
    configuration: RTCConfiguration | None = None,
    patience_s: float = 0.0,
) -> AsyncIterator[WebRtcCall]:
    """A call for the time of a `with` block.

    Args:
        url: of the server, such as `http://localhost:8080`.
        sound: the track that is sent; None: a microphone that says what `say` is given.
        camera: in live mode, pictures as they come or a video file, shown again and again.
        listen_only: sends no sound at all.
        resume: goes on over another connection when this one is lost.
        headers: more HTTP headers, a token for one.
        http: the HTTP client to use, which has headers of its own; None: a new one.
        configuration: of the connection; None: with the STUN and TURN servers that the server
            tells of.
        patience_s: for how long to ask again, when the server says so, where it takes no call.

    Raises:
        CallRefused: the server does not take the call.
        CallEnded: it ended before it had begun.
        httpx.TransportError: the server cannot be reached.
    """
    query = {"mode": mode} | ({"avatar": avatar} if avatar else {})
    url = url.rstrip("/")
    async with AsyncExitStack() as stack:
        if http is None:
            http = httpx.AsyncClient(timeout=HTTP_TIMEOUT_S, headers=headers)
            await stack.enter_async_context(http)
        if configuration is None:
            configuration = await _told_configuration(url, http)
        microphone = None if listen_only else sound or Microphone()
        shown = None if camera is None else open_camera(camera)
        for track, given in ((microphone, sound), (shown, camera)):
            if track is not None and track is not given:
                stack.callback(track.stop)
        call = WebRtcCall(url, http, microphone, shown, configuration, resume=resume)
        stack.push_async_callback(call.close)
        await once_let_in(lambda: call.begin(query), patience_s)
        if resume:
            keeper = asyncio.create_task(call.keep(), name="call-keeper")
            stack.push_async_callback(_cancelled, keeper)
        stack.push_async_callback(call.delete)
        yield call


async def _told_configuration(url: str, http: httpx.AsyncClient) -> RTCConfiguration:
    response = await http.get(f"{url}/v1/ice-servers")
    if not response.is_success:
        retry = response.headers.get("retry-after")
        raise refusal(response.status_code, response.content, retry)
    told = response.json()["ice_servers"]
    return RTCConfiguration(iceServers=[RTCIceServer(**server) for server in told])


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
