"""Which pages may use the server."""

from __future__ import annotations

import pytest

from server.access.origins import is_loopback, origin_allowed

ELSEWHERE = ("https://app.example",)


@pytest.mark.parametrize(
    ("origin", "host", "tokens", "expected"),
    [
        (None, "localhost:8080", False, True),
        ("http://localhost:8080", "localhost:8080", False, True),
        ("http://[::1]:8080", "[::1]:8080", False, True),
        ("http://localhost:3000", "localhost:8080", False, False),
        ("http://evil.example:8080", "evil.example:8080", False, False),  # DNS rebinding
        ("https://lips.example", "lips.example", True, True),
        ("https://evil.example", "lips.example", True, False),
        ("https://app.example", "lips.example", True, True),
        ("https://app.example", "localhost:8080", False, True),
        ("https://app.example.evil.example", "lips.example", True, False),
        ("null", "lips.example", True, False),
        ("http://[", "lips.example", True, False),
        ("file://lips.example", "lips.example", True, False),
    ],
)
def test_an_origin_is_the_servers_own_or_listed(
    origin: str | None, host: str, tokens: bool, expected: bool
) -> None:
    assert origin_allowed(origin, host, ELSEWHERE, tokens=tokens) is expected


def test_loopback_is_known_by_name_and_address() -> None:
    hosts = ("localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]", "page.localhost")
    assert all(map(is_loopback, hosts))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.0.2.1", "localhost.example", "")))
