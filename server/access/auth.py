"""Who may do what: signed tokens with scopes, and tickets for browser sockets.

A token is a JWT, HS256 and nothing else, for the audience `lipwire`, with an
expiry. A ticket is one too, for another audience, lives for seconds and is
taken once: a browser cannot put a header on a WebSocket. The clock is given,
and so is who knows which tickets were taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jwt

from engine.errors import ConfigError, LipwireError
from server.access.tickets import TakenTickets, Tickets

Scope = Literal["call", "watch", "avatars:write", "metrics", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
ALGORITHM = "HS256"
TOKEN_AUDIENCE = "lipwire"
TICKET_AUDIENCE = "lipwire-ticket"
TICKET_S = 30
SKEW_S = 30  # by which clocks may differ
MAX_TOKEN_CHARACTERS = 4096
MIN_SECRET_BYTES = 32  # as long as the hash: RFC 7518, section 3.2
TTL_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class AuthError(LipwireError):
    """No token, one that counts for nothing, or one without the scope.

    Attributes:
        status: 401 or 403.
        code: short name for programs.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows.

    Attributes:
        subject: whom it was made for, "" where nobody was named.
        scopes: "admin" stands for all of them, and "call" for "watch" too.
    """

    subject: str
    scopes: frozenset[str]

    def allows(self, scope: Scope) -> bool:
        return bool(self.scopes & {scope, "admin", *(["call"] if scope == "watch" else [])})

    def require(self, scope: Scope) -> None:
        """
        Raises:
            AuthError: the scope is not granted.
        """
        if not self.allows(scope):
            raise AuthError(403, "scope", f"expected a token with the scope {scope}")


EVERYTHING = Grant("", frozenset({"admin"}))


def parse_ttl(text: str) -> int:
    """Seconds of "90s", "15m", "12h" or "30d".

    Raises:
        ConfigError: something else.
    """
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"expected a time like 90s, 15m, 12h or 30d, got {text!r}")
    return int(match[1]) * TTL_UNITS[match[2]]


class Tokens:
    """Makes tokens of one secret, and checks those of it and of secrets on their way out.

    Args:
        secret: what is signed with, of at least MIN_SECRET_BYTES bytes.
        tickets: who is asked whether a ticket was taken; None: this object alone knows.
        retiring: what was signed with before; its tokens are good until they expire.

    Raises:
        ConfigError: a secret is too short.
    """

    def __init__(
        self,
        secret: bytes,
        clock: Callable[[], float] = time.time,
        tickets: Tickets | None = None,
        retiring: Sequence[bytes] = (),
    ) -> None:
        for each in (secret, *retiring):
            if len(each) < MIN_SECRET_BYTES:
                raise ConfigError(
                    f"expected a token secret of at least {MIN_SECRET_BYTES} bytes, got {len(each)}"
                )
        self._secret = secret
        self._secrets = (secret, *retiring)
        self._clock = clock
        self._tickets = TakenTickets(clock) if tickets is None else tickets

    def issue(self, scopes: Iterable[Scope], ttl_s: int, subject: str = "") -> str:
        """A token.

        Raises:
            ConfigError: no scope, or one that does not exist.
        """
        wanted: list[str] = sorted(set(scopes))
        if not wanted or not set(wanted) <= set(SCOPES):
            raise ConfigError(f"expected scopes of {', '.join(SCOPES)}, got {wanted}")
        return self._sign(TOKEN_AUDIENCE, wanted, ttl_s, subject)

    def verify(self, token: str) -> Grant:
        """What a token allows.

        Raises:
            AuthError: it was not made here, has expired, or is no token.
        """
        return self._read(token, TOKEN_AUDIENCE, SKEW_S)[0]

    def issue_ticket(self, grant: Grant) -> str:
        """A ticket that allows once, within TICKET_S seconds, what `grant` does."""
        return self._sign(TICKET_AUDIENCE, sorted(grant.scopes), TICKET_S, grant.subject)

    async def take_ticket(self, ticket: str) -> Grant:
        """What a ticket allows; the next time it allows nothing.

        Raises:
            AuthError: it was not made here, has expired or may have been taken.
        """
        grant, name, expires = self._read(ticket, TICKET_AUDIENCE, 0)
        if not await self._tickets.take(name, expires - TICKET_S, expires):
            raise AuthError(
                401,
                "ticket_taken",
                "expected a ticket that was not used before, made since the server began",
            )
        return grant

    def poster_key(self, name: str) -> str:
        """What a link to an avatar's poster ends with: `<img>` cannot carry a token."""
        return _poster_key(self._secret, name)

    def is_poster_key(self, name: str, key: str) -> bool:
        keys = [_poster_key(secret, name).encode() for secret in self._secrets]
        return any([hmac.compare_digest(known, key.encode()) for known in keys])

    def _sign(self, audience: str, scopes: list[str], ttl_s: int, subject: str) -> str:
        # A ticket's time is compared with the server's start: to the second is not close enough.
        now = self._clock() if audience == TICKET_AUDIENCE else int(self._clock())
        claims = {
            "aud": audience,
            "sub": subject,
            "scope": " ".join(scopes),
            "iat": now,
            "exp": now + ttl_s,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM)

    def _read(self, token: str, audience: str, skew_s: int) -> tuple[Grant, str, float]:
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise AuthError(401, "bad_token", "expected a token of this server")
        try:
            claims = self._claims(token, audience)
            expires = float(claims["exp"])
        except (jwt.InvalidTokenError, TypeError, ValueError, OverflowError):
            raise AuthError(401, "bad_token", "expected a token of this server") from None
        if not self._clock() < expires + skew_s:
            raise AuthError(401, "token_expired", "the token has expired, get a new one")
        scopes = frozenset(str(claims.get("scope", "")).split())
        return Grant(str(claims.get("sub", "")), scopes), str(claims["jti"]), expires

    def _claims(self, token: str, audience: str) -> dict[str, Any]:
        for secret in self._secrets:
            with contextlib.suppress(jwt.InvalidSignatureError):
                claims: dict[str, Any] = jwt.decode(
                    token,
                    secret,
                    algorithms=[ALGORITHM],
                    audience=audience,
                    # Times are judged by our clock.
                    options={
                        "require": ["exp", "aud", "jti"],
                        "verify_exp": False,
                        "verify_iat": False,
                        "verify_nbf": False,
                    },
                )
                return claims
        raise jwt.InvalidSignatureError


def _poster_key(secret: bytes, name: str) -> str:
    return hmac.new(secret, f"poster:{name}".encode(), hashlib.sha256).hexdigest()[:32]
