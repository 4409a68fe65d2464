"""The control channel as a machine: any row of messages, good and bad, against what must follow."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from server.logs import SessionLog
from server.media.session_media import SessionMedia
from server.message_rate import BURST_MESSAGES, MessageRate
from server.webrtc.peer import Peer


class Media:
    """Counts interrupts, as a session's media does."""

    def __init__(self) -> None:
        self.generation = 0

    def interrupt(self, *, captured: bool = False) -> int:
        self.generation += 1
        return self.generation


class Channel:
    readyState = "open"  # noqa: N815 (names of RTCDataChannel)
    bufferedAmount = 0  # noqa: N815
    label = "lipwire"

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def send(self, message: str) -> None:
        self.sent.append(json.loads(message))

    def on(self, event: str, handler: object) -> None:
        """The machine calls the handler itself."""


class ControlChannel(RuleBasedStateMachine):
    """One answer to each message, in order, and never anything else."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.media, self.channel = Media(), Channel()
        self.ends: list[str] = []
        self.expected: list[dict[str, Any]] = []
        tracks: Any = SimpleNamespace()
        self.peer = Peer(
            "live",
            cast(SessionMedia, self.media),
            tracks,
            tracks,
            SessionLog(logging.getLogger(__name__), "machine"),
            on_connected=lambda: None,
            on_end=self.ends.append,
        )
        self.peer._on_channel(cast(Any, self.channel))

    @rule(
        t=st.none()
        | st.integers(-(2**63) + 1, 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=50)
    )
    def ping(self, t: object) -> None:
        self.peer._on_message(json.dumps({"type": "ping", "t": t}))
        self.expected.append({"type": "pong", "t": t})

    @rule()
    def interrupt(self) -> None:
        self.peer._on_message('{"type": "interrupt", "generation": 99}')
        self.expected.append({"type": "interrupted", "generation": self.media.generation})

    @rule()
    def end(self) -> None:
        ends = len(self.ends)
        self.peer._on_message('{"type": "session.end"}')
        assert self.ends[ends:] == ["client"]

    @rule(data=st.text(max_size=200) | st.binary(max_size=200) | st.just("[" * 20_000))
    def nonsense(self, data: str | bytes) -> None:
        before = len(self.channel.sent)
        self.peer._on_message(data)
        (answer,) = self.channel.sent[before:]
        assert answer["type"] == "error" and not answer["fatal"] and answer["message"]
        self.expected.append(answer)

    @invariant()
    def every_message_is_answered_once_and_in_order(self) -> None:
        assert self.channel.sent == self.expected

    def teardown(self) -> None:
        self.loop.run_until_complete(self.peer.close())
        asyncio.set_event_loop(None)
        self.loop.close()


def test_who_floods_is_told_for_how_long_to_wait() -> None:
    machine = ControlChannel()
    machine.peer._rate = MessageRate(lambda: 0.0)
    try:
        for _ in range(BURST_MESSAGES + 1):
            machine.peer._on_message('{"type": "ping"}')
        error = machine.channel.sent[-1]
        assert (error["code"], error["fatal"]) == ("too_many", True)
        assert error["retry_after_ms"] == 2_000
        assert machine.ends == ["flood"]
    finally:
        machine.teardown()


TestControlChannel = ControlChannel.TestCase
TestControlChannel.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
