"""Several gateways at one engine: nobody waits for anybody."""

from __future__ import annotations

import multiprocessing
import os
import socket
import stat
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from server.engine_link.messages import EngineReady, Ping, Pong
from server.engine_process.connections import OUTBOX_MESSAGES, EngineConnections, OwnerGone

READY = EngineReady("m", "b", 0, 1, 0, 0.0)


class Engine:
    """An engine's connections with its owner's end and a way in for others."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "engine.sock"
        self.path.write_text("what an engine before this one left")
        self.owner, theirs = multiprocessing.Pipe(duplex=True)
        self.connections = EngineConnections(theirs, self.path, READY)
        self.ends: list[Connection] = [self.owner]

    def connect(self) -> Connection:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect(str(self.path))
        end = Connection(client.detach())
        self.ends.append(end)
        assert not list(self.connections.receive(None))
        return end


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path)
    yield engine
    engine.connections.close()
    for end in engine.ends:
        end.close()


def test_everybody_is_greeted_and_answered_alone(engine: Engine) -> None:
    gateway = engine.connect()
    assert stat.S_ISSOCK(engine.path.stat().st_mode)
    assert stat.S_IMODE(engine.path.stat().st_mode) == 0o600
    assert engine.owner.recv() == gateway.recv() == READY
    gateway.send(Ping(7))
    [(connection, message)] = engine.connections.receive(None)
    assert message == Ping(7)
    engine.connections.send(connection, Pong(7, 0.0, 0))
    assert gateway.recv() == Pong(7, 0.0, 0) and not engine.owner.poll()


def test_a_process_of_another_user_is_not_listened_to(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    stranger = engine.connect()
    with pytest.raises(EOFError):
        stranger.recv()
    assert "another user" in caplog.text
    assert engine.owner.recv() == READY and not engine.connections.take_lost()


def test_a_gateway_that_is_gone_is_told_once_and_the_owner_stays(engine: Engine) -> None:
    gateway = engine.connect()
    gateway.send(Ping(1))
    gateway.close()
    [(connection, message)] = engine.connections.receive(None)
    assert message == Ping(1), "what it said before is heard"
    assert engine.connections.take_lost() == [connection]
    assert engine.connections.take_lost() == []
    engine.connections.send(connection, Pong(1, 0.0, 0))  # to nobody
    engine.owner.send(Ping(2))
    [(_, message)] = engine.connections.receive(None)
    assert message == Ping(2)


def test_a_gateway_that_reads_late_gets_everything_in_order(engine: Engine) -> None:
    gateway = engine.connect()
    gateway.send(Ping(0))
    [(connection, _)] = engine.connections.receive(None)
    for number in range(OUTBOX_MESSAGES // 2):
        engine.connections.send(connection, Pong(number, 0.0, 0, ("x" * 1000,)))
    assert gateway.recv() == READY
    for number in range(OUTBOX_MESSAGES // 2):
        while not gateway.poll():
            list(engine.connections.receive(None))  # what was queued goes on
        assert gateway.recv().stamp == number


def test_a_gateway_that_never_reads_is_let_go(engine: Engine) -> None:
    gateway = engine.connect()
    gateway.send(Ping(0))
    [(connection, _)] = engine.connections.receive(None)
    for number in range(2 * OUTBOX_MESSAGES):
        engine.connections.send(connection, Pong(number, 0.0, 0, ("x" * 1000,)))
    assert engine.connections.take_lost() == [connection]


def test_without_its_owner_the_engine_ends(engine: Engine) -> None:
    engine.owner.close()
    assert not list(engine.connections.receive(None))
    with pytest.raises(OwnerGone):
        engine.connections.take_lost()
