"""Whole calls over a real WebSocket, through the client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from server.api.gateway import Gateway
from server.client.errors import CallEnded, CallRefused
from server.client.socket_call import Event, SocketCall, open_call
from server.media.timeline import I16
from server.protocol import (
    InterruptedMessage,
    PlaybackFinishedMessage,
    PlaybackStartedMessage,
    Stats,
)
from server.websocket.wire import Codec, Packet, PacketType, encode_packet
from tests.server.served import served
from tests.server_fakes import make_avatar

Scenario = Callable[[str, Gateway], Awaitable[None]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., None]:
    make_avatar(tmp_path)

    def run_scenario(scenario: Scenario, **settings: Any) -> None:
        async def main() -> None:
            async with served(avatar_dirs=(tmp_path,), **settings) as (url, gateway):
                async with asyncio.timeout(30):
                    await scenario(url, gateway)

        asyncio.run(main())

    return run_scenario


def speech(ms: int, rate_hz: int = 48_000) -> I16:
    return np.full(ms * rate_hz // 1000, 4000, np.int16)


async def collect(call: SocketCall, last: Callable[[Event], bool]) -> list[Event]:
    events = []
    async for event in call:
        events.append(event)
        if last(event):
            break
    return events


def packets(events: list[Event], type_: PacketType) -> list[Packet]:
    return [event for event in events if isinstance(event, Packet) and event.type is type_]


def is_finished(event: Event) -> bool:
    return isinstance(event, PlaybackFinishedMessage)


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_a_sentence_given_at_once_is_spoken_at_one_speed(
    run: Callable[..., None], rate_hz: Any
) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        async with open_call(url, avatar="ada", rate_hz=rate_hz) as call:
            assert call.ready.limits.audio_window_us == 500_000
            talking = asyncio.create_task(call.say(speech(1500, rate_hz)))
            talking.add_done_callback(lambda _: asyncio.ensure_future(call.end_segment()))
            events = await collect(call, is_finished)
            assert await talking
        finished = events[-1]
        assert isinstance(finished, PlaybackFinishedMessage)
        assert abs(finished.position_us - 1_500_000) < 2000 and not finished.interrupted
        assert PlaybackStartedMessage(0, 0) in events
        sound = packets(events, PacketType.AUDIO)
        heard = np.concatenate([np.frombuffer(packet.payload, "<i2") for packet in sound])
        assert abs(np.count_nonzero(np.abs(heard) > 2000) / rate_hz - 1.5) < 0.01
        assert [packet.sequence for packet in sound] == list(range(len(sound)))
        pictures = packets(events, PacketType.VIDEO)
        steps = {later.pts_us - p.pts_us for p, later in pairwise(pictures)}
        assert all(step % 40_000 == 0 for step in steps) and pictures
        shown = cv2.imdecode(np.frombuffer(pictures[0].payload, np.uint8), cv2.IMREAD_COLOR)
        assert shown is not None and shown.shape == (48, 64, 3)

    run(scenario)


def test_h264_pictures_decode_and_begin_with_a_key_frame(run: Callable[..., None]) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        async with open_call(url, avatar="ada", video="h264") as call:
            seen: list[Packet] = []
            while len(seen) < 10:
                event = await call.until(lambda e: isinstance(e, Packet) and e.codec is Codec.H264)
                assert isinstance(event, Packet)
                seen.append(event)
            await call.request_key_frame()
            await call.until(
                lambda e: isinstance(e, Packet) and e.codec is Codec.H264 and e.flags > 0
            )
        assert [packet.flags for packet in seen] == [1] + [0] * 9
        decoder = av.CodecContext.create("h264", "r")
        frames = [frame for p in seen for frame in decoder.decode(av.Packet(p.payload))]
        assert {(frame.width, frame.height) for frame in frames} == {(64, 48)}

    run(scenario)


def test_an_interrupt_voids_what_waits_and_a_new_utterance_is_heard(
    run: Callable[..., None],
) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        async with open_call(url, avatar="ada") as call:
            talking = asyncio.create_task(call.say(speech(5000)))
            await call.until(lambda e: isinstance(e, PlaybackStartedMessage))
            assert await call.interrupt() == 1
            assert not await talking
            events = await collect(call, lambda e: isinstance(e, InterruptedMessage))
            cut = next(event for event in events if isinstance(event, PlaybackFinishedMessage))
            assert cut.interrupted and cut.position_us < 1_000_000
            await call.say(speech(100))
            await call.end_segment()
            events = await collect(call, is_finished)
            assert events[-1] == PlaybackFinishedMessage(1, 1, 100_000, interrupted=False)
            assert {packet.generation for packet in packets(events, PacketType.AUDIO)} == {1}

    run(scenario)


def test_speech_without_credit_ends_the_call_with_1008(run: Callable[..., None]) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        async with open_call(url, avatar="ada") as call:
            call._until_us = 1 << 40
            with pytest.raises(CallEnded, match="audio_overrun: expected at most"):
                await call.say(speech(3000))
                await call.until(lambda _: False)
            assert call._connection.close_code == 1008
        await _until(lambda: gateway.sessions.count == 0)
        page = gateway.metrics.render().decode()
        ended = 'reason="audio_overrun",transport="websocket"'
        assert f"lipwire_sessions_ended_total{{{ended}}} 1.0" in page

    run(scenario)


@pytest.mark.parametrize("flood", ["messages", "packets", "bytes"])
def test_a_flood_ends_the_call_with_a_reason_and_1008(run: Callable[..., None], flood: str) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        async with open_call(url, mode="live") as call:
            old = Packet(PacketType.AUDIO, Codec.PCM16, 0, 0, 0, 21, bytes(2))
            large = Packet(PacketType.VIDEO, Codec.JPEG, 0, 0, 0, 40_000, bytes(1 << 19))
            sent: dict[str, str | bytes] = {
                "messages": '{"type":"flush"}',
                "packets": encode_packet(old),
                "bytes": encode_packet(large),
            }
            with pytest.raises(CallEnded, match="too_many: expected at most"):
                with contextlib.suppress(ConnectionClosed):  # whoever reads is told more
                    for _ in range(1000):
                        await call._connection.send(sent[flood])
                        await asyncio.sleep(0)
                await call.until(lambda _: False)
                raise AssertionError("expected the call to end")
            assert call._connection.close_code == 1008
        await _until(lambda: gateway.sessions.count == 0)
        page = gateway.metrics.render().decode()
        assert 'lipwire_sessions_ended_total{reason="flood",transport="websocket"} 1.0' in page

    run(scenario)


def test_speech_of_an_older_generation_is_dropped(run: Callable[..., None]) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        async with open_call(url, avatar="ada") as call:
            await call.interrupt()
            old = Packet(PacketType.AUDIO, Codec.PCM16, 0, 0, 0, 100_000, bytes(9600))
            await call._connection.send(encode_packet(old))
            await call.end_segment()
            await call.say(speech(80))
            await call.end_segment()
            finished = await call.until(is_finished)
            assert finished == PlaybackFinishedMessage(1, 0, 80_000, interrupted=False)

    run(scenario)


def test_a_camera_comes_back(run: Callable[..., None]) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        _, jpeg = cv2.imencode(".jpg", np.full((120, 160, 3), 90, np.uint8))

        async def film(call: SocketCall) -> None:
            for number in range(1000):
                await call.say(speech(40))
                await call.show(jpeg.tobytes(), number * 40_000)
                await asyncio.sleep(0.04)

        async with open_call(url, mode="live") as call:
            filming = asyncio.create_task(film(call))
            picture = await call.until(lambda e: isinstance(e, Packet) and e.codec is Codec.JPEG)
            assert isinstance(picture, Packet)
            shown = cv2.imdecode(np.frombuffer(picture.payload, np.uint8), cv2.IMREAD_COLOR)
            assert shown is not None and shown.shape == (120, 160, 3)
            assert abs(int(shown.mean()) - 90) < 4
            stats = await call.until(lambda e: isinstance(e, Stats))
            assert isinstance(stats, Stats) and stats.engine == "ready"
            filming.cancel()
            await asyncio.gather(filming, return_exceptions=True)

    run(scenario)


def test_calls_that_are_not_let_in_get_an_http_answer(run: Callable[..., None]) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        for query, status, code in [
            ({"avatar": "eve"}, 404, "unknown_avatar"),
            ({}, 422, "no_avatar"),
            ({"mode": "opera"}, 422, "bad_mode"),
        ]:
            with pytest.raises(CallRefused) as caught:
                async with open_call(url, **query):  # type: ignore[arg-type]
                    pass
            assert (caught.value.status, caught.value.code) == (status, code)
        async with open_call(url, avatar="ada"):
            with pytest.raises(CallRefused) as caught:
                async with open_call(url, avatar="ada"):
                    pass
            assert (caught.value.code, caught.value.status) == ("server_full", 503)
            assert caught.value.retry_after_s
        with pytest.raises(InvalidStatus):
            await connect(f"{url.replace('http', 'ws')}/v1/media?avatar=ada")

    run(scenario, max_sessions=1)


def test_a_handshake_without_a_start_and_an_over_long_message_are_closed(
    run: Callable[..., None],
) -> None:
    async def scenario(url: str, gateway: Gateway) -> None:
        address = f"{url.replace('http', 'ws')}/v1/media?avatar=ada"
        cases: list[tuple[str | bytes, int]] = [('{"type":"ping"}', 1002), (bytes(2 << 20), 1009)]
        for said, code in cases:
            async with connect(address, subprotocols=["lipwire.v1"]) as socket:  # type: ignore[list-item]
                await socket.send(said)
                with pytest.raises(ConnectionClosed):
                    while True:
                        await socket.recv()
                assert socket.close_code == code
        await _until(lambda: gateway.sessions.count == 0)

    run(scenario)


async def _until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)
