"""The server's end of a connection, without a network."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

from server.logs import SessionLog
from server.protocol import CHANNEL
from server.webrtc.peer import MAX_REFUSED_CHANNELS, Peer


class _Channel:
    """A data channel that a client opens."""

    readyState = "open"  # noqa: N815 (as aiortc's)
    bufferedAmount = 0  # noqa: N815

    def __init__(self, label: str) -> None:
        self.label = label
        self.closed = False

    def on(self, event: str, listener: object) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def test_a_call_has_one_data_channel_and_a_flood_of_others_ends_it() -> None:
    async def scenario() -> None:
        ends: list[str] = []
        nothing = cast(Any, None)
        log = SessionLog(logging.getLogger("test"), "test")
        peer = Peer("avatar", nothing, nothing, nothing, log, lambda: None, ends.append)
        own = _Channel(CHANNEL)
        peer._on_channel(cast(Any, own))
        others = [_Channel(CHANNEL if n % 2 else "x" * 60_000) for n in range(MAX_REFUSED_CHANNELS)]
        for channel in others:
            peer._on_channel(cast(Any, channel))
        assert not own.closed and all(channel.closed for channel in others) and ends == []
        peer._on_channel(cast(Any, _Channel("one more")))
        assert ends == ["flood"]
        await peer.close()

    asyncio.run(scenario())
