"""Whole calls over real UDP: a peer of aiortc's, the gateway, and an engine process."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.caller import Caller, Camera, Microphone, Received
from server.app import Gateway, create_app
from server.config import Settings
from tests.server_fakes import make_avatar

SECOND = 48_000
Scenario = Callable[[httpx.AsyncClient, Gateway], Awaitable[None]]


def clicks(seconds: int, every: int = SECOND) -> np.ndarray:
    """Silence with a short tone every second."""
    samples = np.zeros(seconds * SECOND, np.int16)
    tone = (np.sin(np.arange(480) / 480 * np.pi * 20) * 20_000).astype(np.int16)
    for start in range(every, len(samples) - 480, every):
        samples[start : start + 480] = tone
    return samples


def speech(seconds: int) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(seconds * SECOND)
    return (noise * 4000).astype(np.int16)


def grey(width: int = 320, height: int = 240) -> np.ndarray:
    picture = np.full((height * 3 // 2, width), 128, np.uint8)
    picture[:height] = np.arange(width, dtype=np.uint8)
    return picture


def marks(received: Received) -> list[int]:
    return [mark for _, _, mark, _, _ in received.video]


def of_type(received: Received, kind: str) -> list[dict[str, Any]]:
    return [message for message in received.messages if message["type"] == kind]


def run(scenario: Scenario, core: str | None = None, **settings: Any) -> None:
    """Runs a scenario against a gateway."""

    async def main() -> None:
        defaults: dict[str, Any] = {"backend": "passthrough", "log_level": "warning"}
        gateway = Gateway(Settings(**{**defaults, **settings}), core)
        await gateway.start()
        try:
            transport = httpx.ASGITransport(create_app(gateway))
            async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
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
        microphone, camera = Microphone(clicks(20)), Camera(lambda _: grey())
        caller = Caller("http://t", microphone, camera)
        await caller.call(client, mode="live")
        await caller.until(lambda got: len(got.video) >= 75, 30)
        await caller.until(lambda got: sum(peak > 8000 for *_, peak, _ in got.sound) >= 3, 30)
        await caller.until(lambda got: len(of_type(got, "stats")) >= 3)
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
        assert (await client.delete(caller.location)).status_code == 204
        await caller.close()

    run(scenario)


def test_why_mouths_were_withheld_is_counted_for_prometheus() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        caller = Caller("http://t", Microphone(clicks(20)), Camera(lambda _: grey()))
        await caller.call(client, mode="live")
        await caller.until(lambda got: len(got.video) >= 25, 30)
        text = (await client.get("/metrics")).text
        counted = re.findall(r'lipwire_closed_frames_total\{reason="(\w+)"\} (\d+)', text)
        assert [reason for reason, _ in counted] == ["profile"]
        assert int(counted[0][1]) > 10  # the playout's own stand-ins are not among them
        await client.delete(caller.location)
        await caller.close()

    run(scenario, "tests.server_fakes:ProfileCore")


def test_the_control_channel_answers(tmp_path: Path) -> None:
    make_avatar(tmp_path)

    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        caller = Caller("http://t", Microphone(speech(20)))
        await caller.call(client, mode="avatar", avatar="ada")
        await caller.until(lambda got: bool(of_type(got, "session.ready")))
        ready = of_type(caller.received, "session.ready")[0]
        assert (ready["mode"], ready["avatar"]) == ("avatar", "ada")
        caller.send({"type": "ping", "t": 42})
        await caller.until(lambda got: bool(of_type(got, "pong")))
        assert of_type(caller.received, "pong")[0]["t"] == 42
        assert caller.channel is not None
        caller.channel.send("{not json")
        await caller.until(lambda got: bool(of_type(got, "error")))
        assert of_type(caller.received, "error")[0]["code"] == "not_json"
        await caller.until(lambda got: len(got.video) > 10)
        caller.send({"type": "interrupt"})
        await caller.until(lambda got: bool(of_type(got, "interrupted")))
        assert of_type(caller.received, "interrupted")[0]["generation"] == 1
        count = len(caller.received.video)
        await caller.until(lambda got: len(got.video) > count + 25)
        stats = of_type(caller.received, "stats")[-1]
        assert stats["engine"] == "ready" and stats["capture_to_frame_ms"] > 0
        caller.send({"type": "session.end"})
        await _until(lambda: gateway.sessions.count == 0)
        await caller.close()

    run(scenario, avatar_dirs=(tmp_path,))


def test_an_avatar_is_shown_to_who_says_nothing(tmp_path: Path) -> None:
    make_avatar(tmp_path)

    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        caller = Caller("http://t")
        await caller.call(client, mode="avatar", avatar="ada")
        await caller.until(lambda got: len(got.video) > 25 and len(got.sound) > 50)
        assert {(width, height) for *_, width, height in caller.received.video} == {(64, 48)}
        await client.delete(caller.location)
        await caller.close()

    run(scenario, avatar_dirs=(tmp_path,))


def test_a_camera_may_change_its_size_in_mid_call() -> None:
    sizes = [(320, 240), (240, 320), (640, 360)]

    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        camera = Camera(lambda number: grey(*sizes[min(number // 40, 2)]))
        caller = Caller("http://t", Microphone(speech(30)), camera)
        await caller.call(client, mode="live")

        def shown(got: Received) -> set[tuple[int, int]]:
            return {(width, height) for *_, width, height in got.video}

        await caller.until(lambda got: (640, 360) in shown(got), 30)
        assert {(240, 320), (640, 360)} <= shown(caller.received)
        await client.delete(caller.location)
        await caller.close()

    run(scenario)


def test_a_camera_larger_than_the_limit_is_made_smaller() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        camera = Camera(lambda _: grey(640, 480))
        caller = Caller("http://t", Microphone(speech(20)), camera)
        await caller.call(client, mode="live")
        await caller.until(lambda got: len(got.video) > 3)
        assert {(width, height) for *_, width, height in caller.received.video} == {(320, 240)}
        await client.delete(caller.location)
        await caller.close()

    run(scenario, max_width=320, max_height=320)


def test_a_call_outlives_the_engine_process() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        camera = Camera(lambda _: grey())
        caller = Caller("http://t", Microphone(speech(40)), camera)
        await caller.call(client, mode="live")
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
            lambda got: bool(of_type(got, "stats")) and of_type(got, "stats")[-1]["compute_ms"] >= 0
        )
        count = len(caller.received.video)
        await caller.until(lambda got: len(got.video) > count + 25, 20)
        assert (await client.delete(caller.location)).status_code == 204
        await caller.close()

    run(scenario)


def test_a_peer_that_vanishes_gives_its_place_back() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        caller = Caller("http://t", Microphone(speech(20)), Camera(lambda _: grey()))
        await caller.call(client, mode="live")
        await caller.until(lambda got: len(got.video) > 3)
        await caller.vanish()
        await _until(lambda: gateway.sessions.count == 0)
        metrics = (await client.get("/metrics")).text
        assert 'lipwire_sessions_ended_total{reason="idle"} 1.0' in metrics
        await caller.close()

    run(scenario, idle_timeout_s=1.5, stalled_after_s=0.5)


def test_a_peer_that_hangs_up_gives_its_place_back_at_once() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        caller = Caller("http://t", Microphone(speech(20)), Camera(lambda _: grey()))
        await caller.call(client, mode="live")
        await caller.until(lambda got: len(got.video) > 3)
        await caller.close()
        await _until(lambda: gateway.sessions.count == 0, 5)

    run(scenario)


def test_a_call_ends_when_its_time_is_up() -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        caller = Caller("http://t", Microphone(speech(20)), Camera(lambda _: grey()))
        await caller.call(client, mode="live")
        await caller.until(lambda got: bool(of_type(got, "error")))
        assert of_type(caller.received, "error")[0]["code"] == "session_limit"
        await _until(lambda: gateway.sessions.count == 0)
        await caller.close()

    run(scenario, max_session_s=1.0)


def test_a_tiny_model_moves_an_avatars_mouth(tiny_onnx_model: Path, tmp_path: Path) -> None:
    make_avatar(tmp_path, frames=25)

    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        caller = Caller("http://t", Microphone(speech(40)))
        await caller.call(client, mode="avatar", avatar="ada")
        await caller.until(
            lambda got: any(stats["synced"] > 0.5 for stats in of_type(got, "stats")), 30
        )
        stats = of_type(caller.received, "stats")[-1]
        assert stats["backend"].startswith("onnxruntime")
        assert "lipwire_frames_total" in (await client.get("/metrics")).text
        await client.delete(caller.location)
        await caller.close()

    run(scenario, model=str(tiny_onnx_model), backend="onnxruntime", avatar_dirs=(tmp_path,))
