"""What one client may have."""

from __future__ import annotations

import pytest

from server.access import client_limits
from server.access.client_limits import ClientLimited, ClientLimits, client_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
        ("127.0.0.1", None),
        ("127.9.9.9", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("", None),
        (None, None),
    ],
)
def test_an_address_stands_for_a_client(address: str | None, client: str | None) -> None:
    assert client_of(address) == client


def test_two_addresses_of_one_ipv6_network_are_one_client() -> None:
    assert client_of("2001:db8::1") == client_of("2001:db8::ffff:1")
    assert client_of("2001:db8::1") != client_of("2001:db8:0:1::1")


def test_the_one_who_asks_too_often_is_told_when_the_minute_is_over() -> None:
    clock = Clock()
    limits = ClientLimits(0, 3, 5, clock)
    for _ in range(3):
        limits.ask("a")
        clock.now += 10
    with pytest.raises(ClientLimited) as caught:
        limits.ask("a")
    assert (caught.value.code, caught.value.retry_after_s) == ("client_rate", 30)
    limits.ask("b")
    clock.now += 30
    limits.ask("a")


def test_who_asks_on_while_refused_is_let_in_again_all_the_same() -> None:
    clock = Clock()
    limits = ClientLimits(0, 2, 5, clock)
    answers = []
    for _ in range(12):
        try:
            limits.ask("a")
            answers.append(clock.now)
        except ClientLimited:
            pass
        clock.now += 10
    assert answers == [0, 10, 60, 70]


def test_no_limit_means_none() -> None:
    limits = ClientLimits(0, 0, 5, Clock())
    for _ in range(1000):
        limits.ask("a")
        limits.enter("a")


def test_a_flood_of_addresses_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_limits, "REMEMBERED_CLIENTS", 10)
    limits = ClientLimits(1, 1, 5, Clock())
    for number in range(100):
        limits.ask(f"client {number}")
        limits.enter(f"client {number}")
        limits.leave(f"client {number}")
    assert len(limits._asked) == 10 and not limits._active
