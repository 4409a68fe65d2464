"""Calls to a server that may have no place at the moment: asked again when it says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from server.client.errors import CallRefused

T = TypeVar("T")


async def once_let_in(attempt: Callable[[], Awaitable[T]], patience_s: float) -> T:
    """What an attempt gives, made again after each refusal at the time that the server tells.

    Args:
        patience_s: in all; a wait that would be longer is not begun.

    Raises:
        CallRefused: the last refusal, or one after which asking again would not help.
        Exception: what else an attempt raises.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return await attempt()
        except CallRefused as refused:
            wait_s = refused.retry_after_s
            if wait_s is None or time.monotonic() + wait_s > deadline:
                raise
        await asyncio.sleep(wait_s)
