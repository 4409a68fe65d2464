"""Whole calls over real UDP: a peer of aiortc's, the gateway, and an engine process."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.caller import Camera, Received, RecordedCall, recorded_call, vanish
from server.api.app import create_app
from server.api.gateway import Gateway
from server.client.capture import I16, Microphone
from server.client.errors import CallRefused
from server.config import Settings
from server.protocol import ErrorMessage, InterruptedMessage, PongMessage, ReadyMessage, Stats
from tests.server_fakes import make_avatar

SECOND = 48_000
Scenario = Callable[[httpx.AsyncClient, Gateway], Awaitable[None]]


def clicks(seconds: int, every: int = SECOND) -> I16:
    """Silence with a short tone every second."""
    samples = np.zeros(seconds * SECOND, np.int16)
    tone = (np.sin(np.arange(480) / 480 * np.pi * 20) * 20_000).astype(np.int16)
    for start in range(every, len(samples) - 480, every):
        samples[start : start + 480] = tone
    return samples


def speech(seconds: int) -> I16:
    noise = np.random.default_rng(0).standard_normal(seconds * SECOND)
    return (noise * 4000).astype(np.int16)


def grey(width: int = 320, height: int = 240) -> np.ndarray:
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    picture[:height] = np.arange(width, dtype=np.uint8)
    return picture


def marks(received: Received) -> list[int]:
    return [mark for _, _, mark, _, _ in received.video]


def live_call(
    client: httpx.AsyncClient, sound: I16, camera: Camera | None = None
) -> AbstractAsyncContextManager[RecordedCall]:
    camera = camera or Camera(lambda _: grey())
    return recorded_call(
        "http://localhost", mode="live", sound=Microphone(sound), camera=camera, http=client
    )


def run(scenario: Scenario, core: str | None = None, **settings: Any) -> None:
    """Runs a scenario against a gateway."""

    async def main() -> None:
        defaults: dict[str, Any] = {"backend": "passthrough", "log_level": "warning"}
        gateway = Gateway(Settings(**{**defaults, **settings}), core)
        await gateway.start()
        try:
            transport = httpx.ASGITransport(create_app(gateway))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                await scenario(client, gateway)
        finally:
            await gateway.stop()

    asyncio.run(main())


async def _until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.02)


def test_a_camera_and_its_sound_come_back_in_order() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        async with live_call(client, clicks(20)) as caller:
            await caller.until(lambda got: len(got.video) >= 75, 30)
            await caller.until(lambda got: sum(peak > 8000 for *_, peak, _ in got.sound) >= 3, 30)
            await caller.until(lambda got: len(got.of_type(Stats)) >= 3)
            received = caller.received
            assert {(width, height) for *_, width, height in received.video} == {(320, 240)}
            pts = [pts for _, pts, *_ in received.video]
            assert all(later > earlier for earlier, later in pairwise(pts))
            assert all((step % 3600) == 0 for step in pts)
            # A place that the engine filled too late shows the camera's newest picture instead,
            # which may be ahead of the engine's next: rare, unless the machine is overloaded.
            numbers = marks(received)
            backward = sum(late < early for early, late in pairwise(numbers))
            assert backward <= len(numbers) // 10

            sound_pts = [pts for _, pts, *_ in received.sound]
            assert all(later > earlier for earlier, later in pairwise(sound_pts))
            assert (await client.delete(caller.call.location)).status_code == 204

    run(scenario)


def test_why_mouths_were_withheld_is_counted_for_prometheus() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        async with live_call(client, clicks(20)) as caller:
            await caller.until(lambda got: len(got.video) >= 25, 30)
            text = (await client.get("/metrics")).text
            found = re.findall(r'lipwire_closed_frames_total\{reason="(\w+)"\} (\d+)', text)
            counted = {reason: int(count) for reason, count in found if int(count)}
            assert list(counted) == ["profile"]
            assert counted["profile"] > 10  # the playout's own stand-ins are not among them
            await client.delete(caller.call.location)

    run(scenario, "tests.server_fakes:ProfileCore")


def test_the_control_channel_answers(tmp_path: Path) -> None:
    make_avatar(tmp_path)

    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        async with recorded_call(
            "http://localhost", avatar="ada", sound=Microphone(speech(20)), http=client
        ) as caller:
            await caller.until(lambda got: bool(got.of_type(ReadyMessage)))
            ready = caller.received.of_type(ReadyMessage)[0]
            assert (ready.mode, ready.avatar) == ("avatar", "ada")
            await caller.call.ping(42)
            await caller.until(lambda got: bool(got.of_type(PongMessage)))
            assert caller.received.of_type(PongMessage)[0].t == 42
            caller.call.connection._channel.send("{not json")
            await caller.until(lambda got: bool(got.of_type(ErrorMessage)))
            assert caller.received.of_type(ErrorMessage)[0].code == "not_json"
            await caller.until(lambda got: len(got.video) > 10)
            await caller.call.interrupt()
            await caller.until(lambda got: bool(got.of_type(InterruptedMessage)))
            assert caller.received.of_type(InterruptedMessage)[0].generation == 1
            count = len(caller.received.video)
            await caller.until(lambda got: len(got.video) > count + 25)
            stats = caller.received.of_type(Stats)[-1]
            assert stats.engine == "ready" and (stats.capture_to_frame_ms or 0) > 0
            await caller.call.hang_up()
            await _until(lambda: gateway.sessions.count == 0)

    run(scenario, avatar_dirs=(tmp_path,))


def test_an_avatar_is_shown_to_who_says_nothing(tmp_path: Path) -> None:
    make_avatar(tmp_path)

    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        async with recorded_call("http://localhost", avatar="ada", http=client) as caller:
            await caller.until(lambda got: len(got.video) > 25 and len(got.sound) > 50)
            assert {(width, height) for *_, width, height in caller.received.video} == {(64, 48)}
            await client.delete(caller.call.location)

    run(scenario, avatar_dirs=(tmp_path,))


def test_a_camera_may_change_its_size_in_mid_call() -> None:
    sizes = [(320, 240), (240, 320), (640, 360)]

    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        camera = Camera(lambda number: grey(*sizes[min(number // 40, 2)]))
        async with live_call(client, speech(30), camera) as caller:

            def shown(got: Received) -> set[tuple[int, int]]:
                return {(width, height) for *_, width, height in got.video}

            await caller.until(lambda got: (640, 360) in shown(got), 30)
            assert {(240, 320), (640, 360)} <= shown(caller.received)
            await client.delete(caller.call.location)

    run(scenario)


def test_a_camera_larger_than_the_limit_is_made_smaller() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        camera = Camera(lambda _: grey(640, 480))
        async with live_call(client, speech(20), camera) as caller:
            await caller.until(lambda got: len(got.video) > 3)
            assert {(width, height) for *_, width, height in caller.received.video} == {(320, 240)}
            await client.delete(caller.call.location)

    run(scenario, max_width=320, max_height=320)


def test_a_call_outlives_the_engine_process() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        camera = Camera(lambda _: grey())
        async with live_call(client, speech(40), camera) as caller:
            await caller.until(lambda got: len(got.video) > 15)
            pid = gateway.host.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            count = len(caller.received.video)
            # The camera's own pictures go on at once, the engine's follow.
            await caller.until(lambda got: len(got.video) > count + 25, 20)
            await _until(lambda: gateway.host.state == "ready")
            assert gateway.host.restarts == 1
            await caller.until(
                lambda got: bool(got.of_type(Stats)) and got.of_type(Stats)[-1].compute_ms >= 0
            )
            count = len(caller.received.video)
            await caller.until(lambda got: len(got.video) > count + 25, 20)
            assert (await client.delete(caller.call.location)).status_code == 204

    run(scenario)


def test_a_peer_that_vanishes_gives_its_place_back() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        async with live_call(client, speech(20)) as caller:
            await caller.until(lambda got: len(got.video) > 3)
            await vanish(caller.call)
            await _until(lambda: gateway.sessions.count == 0)
            metrics = (await client.get("/metrics")).text
            assert 'lipwire_sessions_ended_total{reason="idle",transport="webrtc"} 1.0' in metrics

    run(scenario, idle_timeout_s=1.5, stalled_after_s=0.5)


def test_without_a_free_port_for_media_the_next_call_is_refused() -> None:
    """One port: the first call has it."""

    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        async with live_call(client, speech(20)) as caller:
            await caller.until(lambda got: len(got.video) > 3)
            with pytest.raises(CallRefused) as refused:
                async with live_call(client, speech(20)):
                    pass
            assert refused.value.code == "no_media_port"
        await _until(lambda: gateway.sessions.count == 0)

    run(scenario, udp_ports="47811-47811", max_sessions=2, calibrate=False)


def test_a_peer_that_hangs_up_gives_its_place_back_at_once() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        async with live_call(client, speech(20)) as caller:
            await caller.until(lambda got: len(got.video) > 3)
            await caller.call.close()
            await _until(lambda: gateway.sessions.count == 0, 5)

    run(scenario)


def test_a_call_ends_when_its_time_is_up() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        async with live_call(client, speech(20)) as caller:
            await caller.until(lambda got: bool(got.of_type(ErrorMessage)))
            assert caller.received.of_type(ErrorMessage)[0].code == "session_limit"
            await _until(lambda: gateway.sessions.count == 0)

    run(scenario, max_session_s=1.0)


def _check_measured(page: str) -> None:
    """A call over WebRTC has passed every stage, and its packets were counted."""
    stages = re.findall(r'lipwire_stage_seconds_count\{stage="(\w+)"\} (\d+)', page)
    assert stages and not [stage for stage, count in stages if not int(count)]
    for direction, kind in [("in", "audio"), ("out", "audio"), ("out", "video")]:
        labels = f'direction="{direction}",kind="{kind}"'
        found = re.search(rf"lipwire_rtp_packets_total\{{{labels}\}} (\d+)", page)
        assert found and int(found[1]) > 0, labels
    assert 'lipwire_sessions_started_total{mode="avatar",transport="webrtc"} 1.0' in page


def test_a_tiny_model_moves_an_avatars_mouth(tiny_onnx_model: Path, tmp_path: Path) -> None:
    make_avatar(tmp_path, frames=25)

    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        async with recorded_call(
            "http://localhost", avatar="ada", sound=Microphone(speech(40)), http=client
        ) as caller:
            await caller.until(
                lambda got: any(stats.synced > 0.5 for stats in got.of_type(Stats)), 30
            )
            stats = caller.received.of_type(Stats)[-1]
            assert stats.backend.startswith("onnxruntime")
            await caller.call.interrupt()
            count = len(caller.received.video)
            await caller.until(lambda got: len(got.video) > count + 5)
            _check_measured((await client.get("/metrics")).text)
            # The engine says what it has done every two seconds.
            await _until(lambda: bool(gateway.host.counts and gateway.host.counts.batches))
            assert gateway.host.counts is not None and set(gateway.host.counts.batches) == {1}
            assert gateway.host.counts.cpu_s > 0 and gateway.host.counts.busy_s > 0
            await client.delete(caller.call.location)

    run(scenario, model=str(tiny_onnx_model), backend="onnxruntime", avatar_dirs=(tmp_path,))
