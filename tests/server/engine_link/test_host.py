"""The engine process: frames through it, its crashes, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from engine.media import Picture
from server.engine_link import host
from server.engine_link.host import EngineHost, EngineUnavailable
from server.engine_link.messages import HopReady
from server.engine_link.stream import INPUT_SLOTS, EngineFrame
from tests.server_fakes import CRASH, HANG, POISON, REFUSE, engine_settings, make_avatar

SILENCE = np.zeros(320, np.float32)
TIMEOUT_S = 30


class Listener:
    """Notes what the engine says about one session."""

    def __init__(self) -> None:
        self.frames: list[EngineFrame] = []
        self.failure: tuple[str, str] | None = None
        self.losses = 0
        self.changed = asyncio.Event()

    def on_hop(self, frames: Sequence[EngineFrame], hop: HopReady) -> None:
        self.frames.extend(frames)
        self.changed.set()

    def on_stream_failed(self, code: str, message: str) -> None:
        self.failure = (code, message)
        self.changed.set()

    def on_engine_lost(self) -> None:
        self.losses += 1
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def until_frames(self, count: int) -> None:
        await self.until(lambda: len(self.frames) >= count)


def _picture(value: int, width: int = 64, height: int = 48) -> Picture:
    return Picture(np.full((height * 3 // 2, width), value, np.uint8))


def _run(scenario: Callable[[EngineHost], Awaitable[None]], core: str = "CueCore") -> None:
    async def main() -> None:
        host = EngineHost(engine_settings(core))
        try:
            await host.start()
            await scenario(host)
        finally:
            await host.stop()

    asyncio.run(main())


def test_pictures_go_through_the_engine_and_keep_their_size_and_order() -> None:
    async def scenario(host: EngineHost) -> None:
        listener = Listener()
        stream = host.open_stream("a", "live", None, (64, 48), listener)
        for index in range(40):
            size = (64, 48) if index < 20 else (32, 24)
            stream.push_video(_picture(index, *size), index * 640)
            stream.push_audio(SILENCE)
            stream.push_audio(SILENCE)
            await listener.until_frames(index + 1)
        indices = [frame.index for frame in listener.frames]
        assert indices == list(range(40))
        last = listener.frames[-1].picture
        assert (last.width, last.height) == (32, 24) and int(last.i420[0, 0]) == 39
        stream.close()

    _run(scenario)


def test_a_stream_waits_for_its_avatar_while_others_go_on_and_begins_where_time_stands(
    tmp_path: Path,
) -> None:
    make_avatar(tmp_path, "slow")

    async def scenario(host: EngineHost) -> None:
        there, came = Listener(), Listener()
        first = host.open_stream("a", "live", None, (64, 48), there)
        second = host.open_stream("b", "avatar", "slow", (64, 48), came)
        async with asyncio.timeout(TIMEOUT_S):
            pushed = 0
            while not came.frames:
                first.push_video(_picture(7), pushed * 640)
                for _ in range(2):
                    first.push_audio(SILENCE)
                    second.push_audio(SILENCE)
                pushed += 1
                await there.until_frames(pushed)
        assert came.losses == 0 and came.failure is None
        assert 0 < came.frames[0].index <= pushed, "time went on meanwhile"
        gone = host.open_stream("c", "avatar", "slow", (64, 48), Listener())
        for stream in (first, second, gone):
            stream.close()

    async def main() -> None:
        host = EngineHost(engine_settings("PatientCore", (tmp_path,)))
        try:
            await host.start()
            await scenario(host)
        finally:
            await host.stop()

    asyncio.run(main())


def test_a_crashed_engine_is_replaced_and_the_stream_goes_on_in_time() -> None:
    async def scenario(host: EngineHost) -> None:
        listener = Listener()
        stream = host.open_stream("a", "live", None, (64, 48), listener)
        first_pid = host.pid
        stream.push_video(_picture(1), 0)
        for _ in range(4):
            stream.push_audio(SILENCE)
        await listener.until(lambda: len(listener.frames) >= 2)
        stream.push_audio(CRASH)
        await listener.until(lambda: listener.losses == 1)
        seen = len(listener.frames)
        stream.push_audio(SILENCE[:100])  # time goes on, by less than a whole frame
        async with asyncio.timeout(TIMEOUT_S):
            while host.state != "ready":
                await asyncio.sleep(0.01)
        assert host.restarts == 1 and host.pid != first_pid
        position = 5 * 320 + 100
        for _ in range(6):
            stream.push_video(_picture(7), position)
            stream.push_audio(SILENCE)
        await listener.until(lambda: len(listener.frames) > seen)
        assert listener.frames[seen].index == -(-position // 640)
        assert int(listener.frames[seen].picture.i420[0, 0]) == 7
        stream.close()

    _run(scenario)


def test_an_engine_killed_from_outside_is_replaced() -> None:
    async def scenario(host: EngineHost) -> None:
        listener = Listener()
        host.open_stream("a", "live", None, (64, 48), listener)
        assert host.pid is not None
        os.kill(host.pid, signal.SIGKILL)
        await listener.until(lambda: listener.losses == 1)
        async with asyncio.timeout(TIMEOUT_S):
            while host.state != "ready":
                await asyncio.sleep(0.01)

    _run(scenario)  # the stream is not closed: its memory goes with the host


def test_an_engine_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "SILENT_S", 0.3)
    monkeypatch.setattr(host, "PING_INTERVAL_S", 0.1)

    async def scenario(host: EngineHost) -> None:
        listener = Listener()
        stream = host.open_stream("a", "live", None, (64, 48), listener)
        stream.push_audio(HANG)
        await listener.until(lambda: listener.losses == 1)
        stream.close()

    _run(scenario)


def test_a_stream_that_breaks_is_reported_and_the_other_goes_on() -> None:
    async def scenario(host: EngineHost) -> None:
        bad, good = Listener(), Listener()
        bad_stream = host.open_stream("bad", "live", None, (64, 48), bad)
        good_stream = host.open_stream("good", "live", None, (64, 48), good)
        bad_stream.push_audio(REFUSE)
        await bad.until(lambda: bad.failure)
        assert bad.failure == ("StreamError", "expected better sound")
        good_stream.push_video(_picture(3), 0)
        good_stream.push_audio(SILENCE)
        good_stream.push_audio(SILENCE)
        await good.until(lambda: good.frames)
        bad_stream.push_audio(SILENCE)
        bad_stream.close()
        good_stream.close()
        assert host.restarts == 0

    _run(scenario)


def test_a_poison_picture_ends_its_session_alone() -> None:
    async def scenario(host: EngineHost) -> None:
        bad, good = Listener(), Listener()
        bad_stream = host.open_stream("bad", "live", None, (64, 48), bad)
        good_stream = host.open_stream("good", "live", None, (64, 48), good)
        bad_stream.push_video(_picture(POISON), 0)
        await bad.until(lambda: bad.failure)
        assert bad.failure is not None and bad.failure[0] == "internal"
        assert "poison" not in bad.failure[1], "what went wrong inside is for the log"
        for index in range(5):
            good_stream.push_video(_picture(3), index * 640)
            good_stream.push_audio(SILENCE)
            good_stream.push_audio(SILENCE)
        await good.until_frames(5)
        bad_stream.close()
        good_stream.close()
        assert host.restarts == 0

    _run(scenario)


def test_a_new_engine_prepares_only_what_the_waiting_calls_show(tmp_path: Path) -> None:
    make_avatar(tmp_path)

    async def main() -> None:
        host = EngineHost(engine_settings("PreparingCore", (tmp_path,)))
        try:
            assert (await host.start()).model == "None", "at first: all of them"
            listener = Listener()
            stream = host.open_stream("a", "avatar", "ada", (64, 48), listener)
            stream.push_audio(CRASH)
            await listener.until(lambda: listener.losses == 1)
            async with asyncio.timeout(TIMEOUT_S):
                while host.state != "ready":
                    await asyncio.sleep(0.01)
            assert host.ready is not None and host.ready.model == "('ada',)"
        finally:
            await host.stop()

    asyncio.run(main())


def test_an_unknown_avatar_fails_its_session_only() -> None:
    async def scenario(host: EngineHost) -> None:
        listener = Listener()
        stream = host.open_stream("a", "avatar", "nobody", (64, 48), listener)
        await listener.until(lambda: listener.failure)
        assert listener.failure is not None and listener.failure[0] == "AvatarError"
        stream.close()

    _run(scenario)


def test_an_interrupt_raises_the_generation_of_later_frames() -> None:
    async def scenario(host: EngineHost) -> None:
        listener = Listener()
        stream = host.open_stream("a", "live", None, (64, 48), listener)
        stream.push_video(_picture(1), 0)
        stream.push_audio(np.zeros(1280, np.float32))
        await listener.until(lambda: len(listener.frames) == 2)
        stream.interrupt(1)
        stream.push_audio(np.zeros(640, np.float32))
        await listener.until(lambda: len(listener.frames) == 3)
        got = [(frame.index, frame.generation) for frame in listener.frames]
        assert got == [(0, 0), (1, 0), (2, 1)]
        stream.close()

    _run(scenario)


def test_of_pictures_that_wait_the_newest_wins() -> None:
    async def scenario(host: EngineHost) -> None:
        listener = Listener()
        stream = host.open_stream("a", "live", None, (64, 48), listener)
        for index in range(20):  # no slot comes back before the loop turns
            stream.push_video(_picture(index), index)
        assert stream.camera_drops == 20 - INPUT_SLOTS - 1
        stream.push_audio(np.zeros(640, np.float32))
        await listener.until(lambda: listener.frames)
        stream.close()

    _run(scenario)


@pytest.mark.parametrize(
    ("core", "message"),
    [("BrokenCore", "potato"), ("DyingCore", "ended"), ("NoSuchCore", "module:callable")],
)
def test_an_engine_that_cannot_start_says_why(core: str, message: str) -> None:
    async def main() -> None:
        host = EngineHost(engine_settings(core))
        with pytest.raises(EngineUnavailable, match=message):
            await host.start()
        await host.stop()

    asyncio.run(main())


def test_after_three_crashes_the_next_best_backend_runs_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        host = EngineHost(engine_settings("ChoosingCore"))
        await host.start()
        ran = []
        for lost in range(1, 4):
            assert host.ready is not None and host.ready.choice is not None
            ran.append(host.ready.choice.name)
            assert host.pid is not None
            os.kill(host.pid, signal.SIGKILL)
            async with asyncio.timeout(TIMEOUT_S):
                while host.restarts < lost or host.state != "ready":
                    await asyncio.sleep(0.01)
        assert host.ready is not None
        choice = host.ready.choice
        assert choice is not None
        assert ran == ["fast"] * 3
        assert choice.name == "slow"
        assert choice.why.startswith("fast does not work: the engine was lost 3 times")
        assert "backend fast gives way to the next best" in caplog.text
        await host.stop()

    asyncio.run(main())
