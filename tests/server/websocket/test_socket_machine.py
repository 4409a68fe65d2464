"""A WebSocket session as a machine: speech, pictures, noise, interrupts and time in any order."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import numpy as np
from fastapi import WebSocket
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.logs import SessionLog
from server.media.media_clock import SOUND_TICKS, TICK_HZ, TICKS_PER_MS
from server.media.session_media import SessionMedia
from server.media.speech_queue import SpeechQueue, to_us
from server.media.timeline import I16
from server.media.tracks import SoundOut, VideoOut
from server.protocol import (
    CreditMessage,
    ErrorMessage,
    InterruptedMessage,
    PlaybackFinishedMessage,
    PlaybackStartedMessage,
    PongMessage,
    ServerMessage,
    StartMessage,
)
from server.websocket.socket_peer import SocketPeer
from server.websocket.wire import Codec, Packet, PacketType, encode_packet

WINDOW = TICK_HZ // 2


class Media:
    """The queue of a session and what leaves it, without engine and playout."""

    def __init__(self) -> None:
        self.now = 0
        self.generation = 0
        self.sound_out, self.video_out = SoundOut(0), VideoOut(0)
        self.speech = SpeechQueue(WINDOW)
        self.speech.begin(0, 0)
        self.told: list[ServerMessage] = []

    def push_speech(self, samples: I16) -> None:
        self.speech.push(samples, self.now)

    def interrupt(self) -> int:
        self.generation += 1
        self.told += self.speech.interrupt(self.generation)
        return self.generation

    def let_pass(self, ticks: int) -> int:
        """Samples of speech that left."""
        self.now += ticks
        spoken = int(np.count_nonzero(self.speech.fill(self.now)))
        self.told += self.speech.note_released(self.speech.position)
        return spoken


class Session(RuleBasedStateMachine):
    """What a client does, and what the server may do about it."""

    def __init__(self) -> None:
        super().__init__()
        self.media = Media()
        self.ends: list[str] = []
        self.peer = SocketPeer(
            cast(WebSocket, SimpleNamespace()),
            StartMessage(),
            "avatar",
            cast(SessionMedia, self.media),
            SessionLog(logging.getLogger(__name__), "machine"),
            self.ends.append,
        )
        self.said = 0  # of this generation, in ticks
        self.spoken = 0
        self.credit = {0: to_us(WINDOW)}

    def answers(self) -> list[ServerMessage]:
        """What was told since the last look; credit only grows within a generation."""
        found: list[ServerMessage] = []
        while not self.peer._messages.empty():
            message = self.peer._messages.get_nowait()
            if isinstance(message, CreditMessage):
                assert message.until_us >= self.credit.get(message.generation, 0)
                self.credit[message.generation] = message.until_us
            else:
                found.append(message)
        return found

    def say_packet(self, ticks: int, generation: int, **changes: Any) -> list[ServerMessage]:
        fields: dict[str, Any] = {
            "type": PacketType.AUDIO, "codec": Codec.PCM16, "generation": generation, "sequence": 0,
            "pts_us": 0, "duration_us": to_us(ticks), "payload": np.full(ticks, 7, "<i2").tobytes(),
        } | changes  # fmt: skip
        self.peer._take(None, encode_packet(Packet(**fields)))
        return self.answers()

    @precondition(lambda self: not self.ends)
    @rule(ms=st.integers(1, 300))
    def speak_within_the_credit(self, ms: int) -> None:
        ticks = min(ms * TICKS_PER_MS, self.media.speech.until - self.said)
        if ticks > 0:
            assert self.say_packet(ticks, self.media.generation) == []
            self.said += ticks

    @precondition(lambda self: not self.ends)
    @rule(more=st.integers(1, 1000))
    def speak_beyond_the_credit(self, more: int) -> None:
        ticks = self.media.speech.until - self.said + more
        (answer,) = self.say_packet(ticks, self.media.generation)
        assert isinstance(answer, ErrorMessage) and answer.fatal
        assert answer.code == "audio_overrun" and self.ends == ["audio_overrun"]

    @precondition(lambda self: not self.ends and self.media.generation > 0)
    @rule(data=st.data())
    def speak_in_an_older_generation(self, data: st.DataObject) -> None:
        older = data.draw(st.integers(0, self.media.generation - 1))
        assert self.say_packet(10 * TICK_HZ // 10, older) == []

    @precondition(lambda self: not self.ends)
    @rule(ahead=st.integers(1, 1000))
    def speak_in_a_generation_to_come(self, ahead: int) -> None:
        (answer,) = self.say_packet(480, self.media.generation + ahead)
        assert isinstance(answer, ErrorMessage) and answer.code == "bad_packet"

    @precondition(lambda self: not self.ends)
    @rule(codec=st.sampled_from([Codec.JPEG, Codec.H264, Codec.VP8]))
    def show_a_picture(self, codec: Codec) -> None:
        changes = {"type": PacketType.VIDEO, "codec": codec, "payload": b"picture"}
        (answer,) = self.say_packet(480, self.media.generation, **changes)
        assert isinstance(answer, ErrorMessage) and answer.code == "bad_packet"

    @precondition(lambda self: not self.ends)
    @rule(data=st.binary(max_size=60))
    def send_noise(self, data: bytes) -> None:
        self.peer._take(None, data)
        for answer in self.answers():
            assert isinstance(answer, ErrorMessage) and answer.code == "bad_packet"

    @precondition(lambda self: not self.ends)
    @rule()
    def interrupt(self) -> None:
        self.peer._take('{"type": "interrupt"}', None)
        assert self.answers() == [InterruptedMessage(self.media.generation)]
        assert self.credit[self.media.generation] == to_us(WINDOW)
        self.said = self.spoken = 0

    @precondition(lambda self: not self.ends)
    @rule(kind=st.sampled_from(["segment.end", "flush", "keyframe.request"]))
    def say_so(self, kind: str) -> None:
        self.peer._take(f'{{"type": "{kind}"}}', None)
        assert self.answers() == []

    @precondition(lambda self: not self.ends)
    @rule()
    def ping(self) -> None:
        self.peer._take('{"type": "ping", "t": 5}', None)
        assert self.answers() == [PongMessage(5)]

    @precondition(lambda self: not self.ends)
    @rule()
    def start_again(self) -> None:
        self.peer._take('{"type": "session.start"}', None)
        (answer,) = self.answers()
        assert isinstance(answer, ErrorMessage) and answer.code == "unexpected"

    @rule(blocks=st.integers(1, 40))
    def let_time_pass(self, blocks: int) -> None:
        self.spoken += self.media.let_pass(blocks * SOUND_TICKS)
        self.peer._tell_credit()
        self.answers()

    @invariant()
    def no_more_waits_than_there_was_credit_for(self) -> None:
        assert 0 <= self.media.speech.waiting <= WINDOW

    @invariant()
    def what_was_said_is_spoken_or_waits(self) -> None:
        assert self.spoken + self.media.speech.waiting == self.said

    @invariant()
    def every_utterance_begins_before_it_ends_and_ends_once(self) -> None:
        begun = [m.segment for m in self.media.told if isinstance(m, PlaybackStartedMessage)]
        ended = [m.segment for m in self.media.told if isinstance(m, PlaybackFinishedMessage)]
        assert begun == sorted(set(begun)) and ended == sorted(set(ended))
        for message in self.media.told:
            if isinstance(message, PlaybackFinishedMessage) and not message.interrupted:
                assert message.segment in begun and message.position_us > 0

    def teardown(self) -> None:
        if self.ends:
            assert self.ends[0] == "audio_overrun"


def test_sessions_in_any_order() -> None:
    """Within a loop, as the peer's queues expect."""

    async def main() -> None:
        Session.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
        Session.TestCase().runTest()

    asyncio.run(main())


def test_a_fault_of_ours_in_a_message_ends_that_call() -> None:
    class Socket:
        async def receive(self) -> dict[str, Any]:
            return {"type": "websocket.receive", "text": "a message"}

    session = Session()
    session.peer._socket = cast(WebSocket, Socket())
    session.peer._take = Mock(side_effect=ValueError)  # type: ignore[method-assign]
    assert asyncio.run(session.peer._receive())
    assert session.ends == ["media_error"]
