"""Which pages may use this server from a browser. Pure.

A browser says in `Origin` whose page asks; programs say nothing and are judged
by their token alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, by name or address, without a port."""
    if host.lower() in ("localhost", "ip6-localhost") or host.lower().endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_allowed(host: str, allowed: Collection[str]) -> bool:
    """Whether a server without tokens answers under this name, given as in `Host`.

    A name that a stranger pointed at this machine (DNS rebinding) would make its page this
    server's own, and let it read what it likes.

    Args:
        allowed: origins that may ask: names that a proxy has.
    """
    if any(urlsplit(origin).netloc == host for origin in allowed):
        return True
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def origin_allowed(
    origin: str | None, host: str, allowed: Collection[str], *, tokens: bool
) -> bool:
    """Whether a page of this origin may ask.

    Args:
        origin: of the request's header; None: not a browser's page.
        host: the request's own `Host`.
        allowed: origins that may, beside the server's own.
        tokens: requests need a token. Where they don't, the server's own page is one that was
            loaded from this machine by its own name: another name in `Host` can be a stranger's
            that was pointed at it (DNS rebinding).
    """
    if origin is None or origin in allowed:
        return True
    try:
        parts = urlsplit(origin)
        name = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme not in ("http", "https") or not name or parts.netloc != host:
        return False
    return tokens or is_loopback(name)
