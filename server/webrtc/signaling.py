"""Offers and answers as text: what is let in, and what is added on the way out.

An offer is checked before aiortc sees it, because a mutated one makes aiortc
raise whatever comes to hand. What is left to its parser is caught around it.
"""

from __future__ import annotations

import re
from typing import Literal

from engine.errors import LipwireError
from server.engine_link.messages import Mode
from server.quoting import quoted

MAX_OFFER_BYTES = 65_536
MAX_MEDIA_LINES = 4
MAX_CANDIDATES = 20  # a media line; Chromium sends fewer, and each costs a check
START_BITRATE_KBPS = 1200
# What a connection does for its session: both directions, the client's alone, the server's alone.
Role = Literal["call", "publisher", "viewer"]
SECURED_BY = ("a=fingerprint:", "a=ice-ufrag:", "a=ice-pwd:")  # without one nothing can connect


class OfferRefused(LipwireError):
    """An offer that cannot be answered.

    Attributes:
        code: short name for programs.
        status: of the HTTP answer.
    """

    def __init__(self, code: str, message: str, status: int = 422) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


def check_offer(sdp: str, mode: Mode, role: Role = "call") -> str:
    """The offer, fit for aiortc: line ends repaired, unusable candidates removed.

    Raises:
        OfferRefused: not an offer, or one for something that we don't serve.
    """
    lines = sdp.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    if lines[0] != "v=0":
        raise OfferRefused("bad_sdp", "expected an SDP offer that begins with v=0", 400)
    if any(not re.match(r"[a-z]=", line) for line in lines):
        raise OfferRefused("bad_sdp", "expected SDP lines of the form x=value", 400)
    media = [line.split(" ")[0][2:] for line in lines if line.startswith("m=")]
    if not media or len(media) > MAX_MEDIA_LINES:
        raise OfferRefused(
            "media_lines", f"expected 1 to {MAX_MEDIA_LINES} media lines, got {len(media)}"
        )
    unknown = sorted(set(media) - {"audio", "video", "application"})
    if unknown:
        raise OfferRefused("media_kind", f"expected audio, video and data, got {quoted(unknown)}")
    _check_kinds(media, mode, role)
    for attribute in SECURED_BY:
        if not any(line.startswith(attribute) for line in lines):
            raise OfferRefused("bad_sdp", f"expected a line {attribute}... in the offer", 400)
    _check_directions(lines, mode, role)
    kept = [line for line in lines if not is_unusable(line)]
    if len(kept) < len(lines):
        # The client may be reached at what was left out: its checks tell from where they come.
        kept = [line for line in kept if line != "a=end-of-candidates"]
    candidates = sum(line.startswith("a=candidate:") for line in kept)
    if candidates > MAX_CANDIDATES * len(media):
        raise OfferRefused(
            "candidates",
            f"expected at most {MAX_CANDIDATES} candidates a media line, got {candidates} in all",
        )
    return "\r\n".join(kept) + "\r\n"


def tune_answer(sdp: str) -> str:
    """The answer with a bitrate that lets a camera begin with a clear picture."""
    lines = sdp.split("\r\n")
    payload_types = [
        match.group(1)
        for line in lines
        if (match := re.match(r"a=rtpmap:(\d+) (?:VP8|H264)/90000", line))
    ]
    hint = f"x-google-start-bitrate={START_BITRATE_KBPS}"
    tuned: list[str] = []
    for line in lines:
        tuned.append(line)
        match = re.match(r"a=rtpmap:(\d+) ", line)
        if match and match.group(1) in payload_types:
            prefix = f"a=fmtp:{match.group(1)} "
            if not any(other.startswith(prefix) for other in lines):
                tuned.append(prefix + hint)
        elif any(line.startswith(f"a=fmtp:{number} ") for number in payload_types):
            tuned[-1] = f"{line};{hint}"
    return "\r\n".join(tuned)


def _check_kinds(media: list[str], mode: Mode, role: Role) -> None:
    """
    Args:
        media: kinds of the offer's media lines.
    """
    needed = {"audio", "video"}
    if role == "publisher" and mode == "avatar":
        needed = {"audio"}
    elif role == "viewer":
        needed = {"video"}  # a player may be without a loudspeaker
    for kind in ("audio", "video"):
        count = media.count(kind)
        if count > 1 or (kind in needed and not count):
            raise OfferRefused("media_lines", f"expected one {kind} line in the offer, got {count}")


def _check_directions(lines: list[str], mode: Mode, role: Role) -> None:
    kind = ""
    for line in lines:
        if line.startswith("m="):
            kind = line.split(" ")[0][2:]
        taken = kind == "audio" or (kind == "video" and mode == "live")
        if kind not in ("audio", "video"):
            continue
        if role == "publisher" and taken and line in ("a=recvonly", "a=inactive"):
            raise OfferRefused("direction", f"expected your {kind}, the offer says {line}")
        if (role == "viewer" or (role == "call" and kind == "video")) and line in (
            "a=sendonly",
            "a=inactive",
        ):
            raise OfferRefused("direction", f"expected to send you {kind}, the offer says {line}")
        if role == "call" and mode == "live" and kind == "video" and line == "a=recvonly":
            raise OfferRefused("direction", "live mode needs your camera, the offer says recvonly")


def is_unusable(line: str) -> bool:
    """Candidates that only cost time: mDNS names (1.2 s each to resolve in vain) and TCP."""
    if not line.startswith("a=candidate:"):
        return False
    parts = line.split()
    return len(parts) < 8 or parts[4].endswith(".local") or parts[2].lower() != "udp"
