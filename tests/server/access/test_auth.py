"""Tokens and tickets, on a clock of the test's own."""

from __future__ import annotations

import asyncio
import base64
import json
import time

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ConfigError
from server.access.auth import SKEW_S, TICKET_S, AuthError, Grant, Tokens, parse_ttl
from server.access.tickets import TakenTickets

SECRET = b"s" * 32
NOW = 1_800_000_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Tokens(SECRET, clock)


def take(tokens: Tokens, ticket: str) -> Grant:
    return asyncio.run(tokens.take_ticket(ticket))


def code_of(tokens: Tokens, token: str) -> str:
    with pytest.raises(AuthError) as caught:
        tokens.verify(token)
    assert caught.value.status == 401
    return caught.value.code


def test_a_token_allows_its_scopes_and_no_others(tokens: Tokens) -> None:
    grant = tokens.verify(tokens.issue(["call", "metrics"], 60, "alice"))
    assert grant.subject == "alice"
    assert grant.allows("call") and grant.allows("metrics") and not grant.allows("avatars:write")
    assert grant.allows("watch")
    assert not tokens.verify(tokens.issue(["watch"], 60)).allows("call")
    with pytest.raises(AuthError, match="avatars:write") as caught:
        grant.require("avatars:write")
    assert caught.value.status == 403


def test_admin_allows_everything(tokens: Tokens) -> None:
    assert tokens.verify(tokens.issue(["admin"], 60)).allows("avatars:write")


def test_a_token_expires_after_its_time_and_the_skew(tokens: Tokens, clock: Clock) -> None:
    token = tokens.issue(["call"], 60)
    clock.now = NOW + 60 + SKEW_S - 1
    assert tokens.verify(token).allows("call")
    clock.now = NOW + 60 + SKEW_S
    assert code_of(tokens, token) == "token_expired"


def _forged(claims: dict[str, object], algorithm: str, key: bytes) -> str:
    return jwt.encode(claims, key, algorithm=algorithm)


def test_other_secrets_algorithms_audiences_and_claims_count_for_nothing(tokens: Tokens) -> None:
    good: dict[str, object] = {
        "aud": "lipwire",
        "exp": NOW + 60,
        "jti": "1",
        "scope": "admin",
    }
    assert tokens.verify(_forged(good, "HS256", SECRET)).allows("call")
    unsigned = ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
        for part in ({"alg": "none", "typ": "JWT"}, good)
    )
    for token in [
        _forged(good, "HS256", b"t" * 32),
        _forged(good, "HS512", SECRET * 2),
        _forged(good | {"aud": "elsewhere"}, "HS256", SECRET),
        _forged({name: good[name] for name in ("aud", "jti", "scope")}, "HS256", SECRET),
        _forged(good | {"exp": "soon"}, "HS256", SECRET),
        unsigned + ".",
        tokens.issue_ticket(tokens.verify(tokens.issue(["admin"], 60))),
        "",
        "a.b.c",
        "x" * 5000,
    ]:
        assert code_of(tokens, token) == "bad_token", token


@given(st.text(max_size=200))
def test_no_text_is_a_token_or_an_error_of_another_kind(text: str) -> None:
    with pytest.raises(AuthError):
        Tokens(SECRET, time.time).verify(text)


def test_a_ticket_is_taken_once(tokens: Tokens) -> None:
    ticket = tokens.issue_ticket(tokens.verify(tokens.issue(["call"], 60, "bob")))
    assert take(tokens, ticket).subject == "bob"
    with pytest.raises(AuthError) as caught:
        take(tokens, ticket)
    assert caught.value.code == "ticket_taken"


def test_a_ticket_lives_for_seconds_and_is_then_forgotten(clock: Clock) -> None:
    taken = TakenTickets(clock)
    tokens = Tokens(SECRET, clock, taken)
    grant = tokens.verify(tokens.issue(["call"], 60))
    late = tokens.issue_ticket(grant)
    for _ in range(100):
        take(tokens, tokens.issue_ticket(grant))
    clock.now = NOW + TICKET_S
    with pytest.raises(AuthError) as caught:
        take(tokens, late)
    assert caught.value.code == "token_expired"
    take(tokens, tokens.issue_ticket(grant))
    assert taken.count == 1


def test_a_token_is_no_ticket(tokens: Tokens) -> None:
    with pytest.raises(AuthError):
        take(tokens, tokens.issue(["call"], 60))


def test_a_ticket_does_not_outlive_a_restart_even_within_its_second(clock: Clock) -> None:
    clock.now = NOW + 0.2
    ticket = Tokens(SECRET, clock).issue_ticket(Grant("", frozenset({"call"})))
    clock.now = NOW + 0.3
    restarted = Tokens(SECRET, clock)
    with pytest.raises(AuthError) as caught:
        take(restarted, ticket)
    assert caught.value.code == "ticket_taken"
    assert take(restarted, restarted.issue_ticket(Grant("", frozenset({"call"})))).allows("call")


def test_while_a_secret_is_replaced_tokens_of_both_are_good(clock: Clock) -> None:
    old, new = b"o" * 32, b"n" * 32
    before, after = Tokens(old, clock), Tokens(new, clock)
    between = Tokens(new, clock, retiring=[old])
    earlier, later = before.issue(["call"], 3600), between.issue(["metrics"], 3600)
    assert between.verify(earlier).allows("call") and between.verify(later).allows("metrics")
    assert between.is_poster_key("anna", before.poster_key("anna"))
    assert between.poster_key("anna") == after.poster_key("anna")
    assert code_of(after, earlier) == code_of(before, later) == "bad_token"
    clock.now += 3600 + SKEW_S
    assert code_of(between, earlier) == "token_expired"
    with pytest.raises(ConfigError, match="at least 32 bytes, got 5"):
        Tokens(new, clock, retiring=[b"short"])


def test_a_poster_link_opens_one_poster(tokens: Tokens) -> None:
    key = tokens.poster_key("ada")
    assert tokens.is_poster_key("ada", key)
    assert not tokens.is_poster_key("eve", key) and not tokens.is_poster_key("ada", "ä")


def test_what_cannot_be_a_secret_a_scope_or_a_time_says_what_was_expected(tokens: Tokens) -> None:
    with pytest.raises(ConfigError, match="32 bytes, got 5"):
        Tokens(b"short")
    with pytest.raises(ConfigError, match="expected scopes of call"):
        tokens.issue([], 60)
    for text in ("", "1", "h", "0s", "1.5h", "-1h", "1w", "9999999999s"):
        with pytest.raises(ConfigError, match="90s"):
            parse_ttl(text)
    assert [parse_ttl(text) for text in ("90s", "15m", "12h", "30d")] == [90, 900, 43200, 2592000]
