"""How late the event loop is: what every call of this process waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

INTERVAL_S = 0.25


async def watch_loop(observe_s: Callable[[float], None]) -> None:
    """Tells four times a second by how much a timer was late, until it is cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_S
        await asyncio.sleep(INTERVAL_S)
        observe_s(max(loop.time() - due, 0.0))
