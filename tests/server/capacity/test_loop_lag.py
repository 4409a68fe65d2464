"""A loop that is held up says by how much."""

from __future__ import annotations

import asyncio
import time

from server.capacity.loop_lag import JUDGED, LagJudge, watch_loop


def test_a_blocked_loop_is_seen() -> None:
    seen: list[float] = []

    async def main() -> None:
        told = asyncio.Event()

        def observe(lag_s: float) -> None:
            seen.append(lag_s)
            told.set()

        watching = asyncio.create_task(watch_loop(observe))
        await asyncio.sleep(0)
        time.sleep(0.6)  # what must never happen: 0.25 s of it are the interval itself
        await asyncio.wait_for(told.wait(), 10)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(main())
    assert seen[0] >= 0.3


def test_a_loop_that_is_late_for_seconds_is_held_up() -> None:
    judge = LagJudge()
    assert not any(judge.note(0.06) for _ in range(JUDGED - 1))
    assert judge.note(0.06)


def test_a_moment_of_work_does_not_make_a_loop_held_up() -> None:
    judge = LagJudge()
    lags = [0.001] * JUDGED + [0.4, 0.3, 0.2] + [0.001] * JUDGED
    assert not any([judge.note(lag_s) for lag_s in lags])
