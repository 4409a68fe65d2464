"""Asking again for a call, when the server says."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from server.client import patience, socket_call, webrtc_call
from server.client.errors import CallEnded, CallRefused, ending
from server.client.patience import once_let_in
from server.protocol import ErrorMessage
from tests.server.served import served
from tests.server_fakes import make_avatar


class Clock:
    """`time.monotonic`, and a sleep that turns it instead of waiting."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    monkeypatch.setattr(patience, "asyncio", clock)
    return clock


def _attempts(clock: Clock, *answers: int | str | None) -> tuple[list[float], object]:
    """When attempts were made, and what came of them: waits in seconds, or what is given."""
    left, made = list(answers), list[float]()

    async def attempt() -> str:
        made.append(clock.now)
        answer = left.pop(0)
        if isinstance(answer, str):
            return answer
        raise CallRefused(503, "server_full", "full", answer)

    try:
        return made, asyncio.run(once_let_in(attempt, 20.0))
    except CallRefused as refused:
        return made, refused.retry_after_s


def test_a_refused_client_asks_again_when_the_server_says(clock: Clock) -> None:
    assert _attempts(clock, 5, 7, "a call") == ([0, 5, 12], "a call")


def test_a_wait_beyond_its_patience_is_not_begun(clock: Clock) -> None:
    assert _attempts(clock, 5, 16, "a call") == ([0, 5], 16)


def test_a_refusal_that_waiting_does_not_mend_is_final(clock: Clock) -> None:
    assert _attempts(clock, None, "a call") == ([0], None)


def test_an_ended_call_says_when_to_call_again() -> None:
    ended = ending(ErrorMessage("too_many", "expected less", True, 1_500))
    assert (ended.code, ended.retry_after_s) == ("too_many", 1.5)
    assert ending(ErrorMessage("session_limit", "time is up", True)).retry_after_s is None


def test_both_clients_get_the_place_that_becomes_free_and_hear_the_server_end(
    tmp_path: Path,
) -> None:
    make_avatar(tmp_path)

    async def main() -> None:
        few: dict[str, Any] = {"max_sessions": 1, "retry_after_s": 1}
        async with served(avatar_dirs=(tmp_path,), **few) as (url, gateway):
            for open_call in (socket_call.open_call, webrtc_call.open_call):
                async with socket_call.open_call(url, avatar="ada") as first:
                    with pytest.raises(CallRefused):
                        async with open_call(url, avatar="ada"):
                            pass

                    async def patient(open_call: object = open_call) -> CallEnded:
                        async with open_call(url, avatar="ada", patience_s=20.0) as call:  # type: ignore[operator]
                            closing = asyncio.create_task(gateway.sessions.close())
                            with pytest.raises(CallEnded) as caught:
                                await call.until(lambda _: False)
                            await closing
                            return caught.value

                    waiting = asyncio.create_task(patient())
                    await first.hang_up()
                    ended = await waiting
                    assert (ended.code, ended.retry_after_s) == ("draining", 3)

    asyncio.run(main())
