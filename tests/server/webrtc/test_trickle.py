"""Fragments with candidates: what is taken of them."""

from __future__ import annotations

import contextlib

import pytest
from aiortc.sdp import candidate_from_sdp
from hypothesis import given
from hypothesis import strategies as st

from server.webrtc.signaling import MAX_CANDIDATES, OfferRefused
from server.webrtc.trickle import TrickledCandidate, parse_fragment

HOST = "1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw"
FRAGMENT = f"""a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
m=audio 9 RTP/AVP 0
a=mid:0
a=candidate:{HOST}
a=end-of-candidates
"""  # in the form of RFC 9725's example


def test_a_fragment_says_its_session_its_candidates_and_that_they_are_all() -> None:
    fragment = parse_fragment(FRAGMENT)
    assert fragment.usernames == {"EsAw"} and fragment.ends
    assert fragment.candidates == (TrickledCandidate("0", HOST),)


def test_candidates_without_a_media_line_are_for_the_first() -> None:
    (candidate,) = parse_fragment(f"a=candidate:{HOST}\r\n").candidates
    assert candidate.mid is None


@pytest.mark.parametrize(
    "value",
    [
        "1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
        "1 1 udp 2122260223 0b5a.local 61764 typ host",
        "1 1 udp 2122260223 stun.example.org 61764 typ host",
        "1 2 udp 2122260223 192.0.2.1 61764 typ host",
        "1 1 udp 2122260223 192.0.2.1 99999 typ host",
        "1 1 udp 2122260223 192.0.2.1 0 typ host",
        "1 1 udp many 192.0.2.1 61764 typ host",
        "1 1 udp",
    ],
)
def test_a_candidate_that_cannot_be_used_is_passed_over(value: str) -> None:
    fragment = parse_fragment(f"a=candidate:{value}\na=candidate:{HOST}\n")
    assert [candidate.line for candidate in fragment.candidates] == [HOST]


@pytest.mark.parametrize("text", ["", "hello", "a=candidate\nb", "m=audio 9 RTP/AVP 0\n"])
def test_what_is_no_fragment_is_refused(text: str) -> None:
    with pytest.raises(OfferRefused, match="expected") as caught:
        parse_fragment(text)
    assert (caught.value.status, caught.value.code) == (400, "bad_fragment")


def test_too_many_candidates_are_refused() -> None:
    with pytest.raises(OfferRefused) as caught:
        parse_fragment(f"a=candidate:{HOST}\n" * (MAX_CANDIDATES + 1))
    assert caught.value.code == "candidates"


_words = st.one_of(
    st.sampled_from(["udp", "1", "192.0.2.1", "typ", "host", "raddr", "::1", "2122260223", "९"]),
    st.text(max_size=6),
)
_lines = st.one_of(
    st.lists(_words, max_size=12).map(lambda words: "a=candidate:" + " ".join(words)),
    st.sampled_from(["m=audio 9 RTP/AVP 0", "a=mid:0", "a=ice-ufrag:EsAw", "a=end-of-candidates"]),
    st.text(max_size=20),
)


@given(st.lists(_lines, max_size=8))
def test_whatever_comes_what_is_taken_can_be_used(lines: list[str]) -> None:
    with contextlib.suppress(OfferRefused):
        for candidate in parse_fragment("\n".join(lines)).candidates:
            assert candidate_from_sdp(candidate.line).component == 1
