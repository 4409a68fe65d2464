"""Candidates that come after their offer, in SDP fragments (RFC 8840, RFC 9725). Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from server.webrtc.signaling import MAX_CANDIDATES, OfferRefused, is_unusable

FRAGMENT = "application/trickle-ice-sdpfrag"


@dataclass(frozen=True, slots=True)
class TrickledCandidate:
    """A candidate of the client's.

    Attributes:
        mid: of the media section that it is for; None: of the first.
        line: as in SDP, without "a=candidate:".
    """

    mid: str | None
    line: str


@dataclass(frozen=True, slots=True)
class IceFragment:
    """What one fragment says.

    Attributes:
        usernames: fragments of the ICE sessions that it is of, those that it names.
        ends: no more candidates will come.
    """

    usernames: frozenset[str]
    candidates: tuple[TrickledCandidate, ...]
    ends: bool


def parse_fragment(text: str) -> IceFragment:
    """What a fragment says, without candidates that cannot be used.

    Raises:
        OfferRefused: no fragment, or too many candidates.
    """
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    if any(not re.match(r"[a-z]=", line) for line in lines):
        raise OfferRefused("bad_fragment", "expected SDP lines of the form x=value", 400)
    usernames, candidates, ends = set[str](), list[TrickledCandidate](), False
    mid: str | None = None
    for line in lines:
        name, _, value = line[2:].partition(":")
        if line.startswith("m="):
            mid = None
        elif not line.startswith("a="):
            continue
        elif name == "mid":
            mid = value
        elif name == "ice-ufrag":
            usernames.add(value)
        elif name == "end-of-candidates":
            ends = True
        elif name == "candidate" and not is_unusable(line) and _is_sound(value):
            candidates.append(TrickledCandidate(mid, value))
    if len(candidates) > MAX_CANDIDATES:
        raise OfferRefused(
            "candidates", f"expected at most {MAX_CANDIDATES} candidates, got {len(candidates)}"
        )
    if not candidates and not ends and not usernames:
        raise OfferRefused("bad_fragment", "expected candidates or the end of them", 400)
    return IceFragment(frozenset(usernames), tuple(candidates), ends)


def _is_sound(value: str) -> bool:
    """Whether a candidate can be used; RFC 9725, 4.3.2, has the others passed over."""
    _, component, _, priority, address, port, *_ = value.split()
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return (
        component == "1"  # sound and pictures share a port with their RTCP
        and re.fullmatch(r"\d{1,10}", priority) is not None
        and re.fullmatch(r"[1-9]\d{0,4}", port) is not None
        and int(port) < 65_536
    )
