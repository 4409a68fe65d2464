"""Which gateway answers what, without any process."""

from __future__ import annotations

from collections import Counter

import pytest

from server.gateway_messages import GatewayState
from server.gateway_router import gateway_of, is_for_home, least_loaded, session_suffix


def _gateways(*sessions: int, down: tuple[int, ...] = ()) -> tuple[GatewayState, ...]:
    return tuple(
        GatewayState(index, index not in down, count, 0) for index, count in enumerate(sessions)
    )


@pytest.mark.parametrize(
    ("path", "gateway"),
    [
        ("/v1/sessions/0a1b-0", 0),
        ("/v1/sessions/0a1b-12", 12),
        ("/v1/sessions/0a1b-3/resume", 3),
        ("/v1/sessions/0a1b", None),
        ("/v1/sessions/0a1b-x", None),
        ("/v1/sessions/0a1b-99999999999", None),
        ("/v1/sessions/a/b-1", None),
        ("/v1/sessions", None),
        ("/v1/avatars/anna-1/poster.jpg", None),
    ],
)
def test_a_sessions_id_says_which_gateway_holds_it(path: str, gateway: int | None) -> None:
    assert gateway_of(path) == gateway


def test_an_id_that_a_gateway_gives_leads_back_to_it() -> None:
    assert gateway_of(f"/v1/sessions/{'f' * 32}{session_suffix(5)}") == 5


@pytest.mark.parametrize(
    ("method", "path", "home"),
    [
        ("POST", "/v1/avatars", True),
        ("DELETE", "/v1/avatars/eve", True),
        ("GET", "/v1/avatars/jobs/1a", False),
        ("GET", "/v1/avatars", False),
        ("GET", "/v1/avatars/eve/poster.jpg", False),
        ("POST", "/v1/tickets", False),
    ],
)
def test_one_gateway_makes_the_avatars_that_are_uploaded(
    method: str, path: str, home: bool
) -> None:
    assert is_for_home(method, path) == home


def test_the_next_call_goes_to_the_gateway_with_the_fewest() -> None:
    assert least_loaded(_gateways(2, 1, 3), Counter(), own=0) == 1


def test_of_equals_the_one_that_was_asked_answers_itself() -> None:
    assert least_loaded(_gateways(1, 1, 1), Counter(), own=2) == 2


def test_calls_on_their_way_count_too() -> None:
    gateways, coming = _gateways(0, 0, 0), Counter[int]()
    chosen = []
    for _ in range(6):
        chosen.append(least_loaded(gateways, coming, own=0))
        coming[chosen[-1]] += 1
    assert sorted(chosen) == [0, 0, 1, 1, 2, 2]


def test_a_gateway_that_is_down_gets_no_call() -> None:
    assert least_loaded(_gateways(5, 0, down=(1,)), Counter(), own=0) == 0
    assert least_loaded(_gateways(0, 0, down=(0, 1)), Counter(), own=1) == 1
