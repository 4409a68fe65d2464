"""What of an offer is let in."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from server.engine_link.messages import Mode
from server.webrtc.signaling import SECURED_BY, OfferRefused, check_offer, tune_answer


def make_offer(video: str = "sendrecv") -> str:
    """A real offer of aiortc's."""

    async def offer() -> str:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.addTransceiver("audio", "sendrecv")
        connection.addTransceiver("video", video)
        connection.createDataChannel("lipwire")
        try:
            await connection.setLocalDescription(await connection.createOffer())
            return str(connection.localDescription.sdp)
        finally:
            await connection.close()

    return asyncio.run(offer())


@pytest.fixture(scope="module")
def offer() -> str:
    return make_offer()


def test_a_real_offer_passes_unchanged(offer: str) -> None:
    assert check_offer(offer, "live") == offer
    assert check_offer(offer.replace("\r\n", "\n"), "avatar") == offer


@pytest.mark.parametrize("attribute", SECURED_BY)
def test_an_offer_that_can_never_connect_is_refused_at_once(offer: str, attribute: str) -> None:
    with pytest.raises(OfferRefused, match=attribute):
        check_offer(offer.replace(attribute, "a=other:"), "live")


def test_candidates_that_only_cost_time_are_removed(offer: str) -> None:
    lines = [
        "a=candidate:1 1 udp 2122260223 0b5a.local 51000 typ host",
        "a=candidate:2 1 tcp 1518280447 192.0.2.9 9 typ host tcptype active",
        "a=candidate:3 1 udp 2122260223 192.0.2.9 51000 typ host",
        "a=candidate:nonsense",
    ]
    checked = check_offer(offer + "\r\n".join(lines) + "\r\n", "live")
    assert [line in checked for line in lines] == [False, False, True, False]


@pytest.mark.parametrize("mode", ["avatar", "live"])
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda sdp: "", "bad_sdp"),
        (lambda sdp: "hello", "bad_sdp"),
        (lambda sdp: sdp.replace("v=0", "v=1"), "bad_sdp"),
        (lambda sdp: sdp + "garbage\r\n", "bad_sdp"),
        (lambda sdp: sdp[: sdp.index("m=")], "media_lines"),
        (lambda sdp: sdp + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n" * 2, "media_lines"),
        (lambda sdp: sdp + "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n", "media_lines"),
        (lambda sdp: sdp.replace("m=video", "m=image"), "media_kind"),
        (lambda sdp: sdp.replace("m=video", "m=application"), "media_lines"),
        (
            lambda sdp: sdp + "a=candidate:1 1 udp 1 192.0.2.9 51000 typ host\r\n" * 100,
            "candidates",
        ),
    ],
)
def test_what_is_no_usable_offer_is_refused_with_a_code(
    offer: str, mode: Mode, change: object, code: str
) -> None:
    assert callable(change)
    with pytest.raises(OfferRefused, match="expected") as caught:
        check_offer(change(offer), mode)
    assert caught.value.code == code
    assert 400 <= caught.value.status < 500


def test_live_mode_needs_a_camera_and_both_need_an_eye() -> None:
    watching = make_offer("recvonly")
    assert check_offer(watching, "avatar") == watching
    with pytest.raises(OfferRefused, match="camera"):
        check_offer(watching, "live")
    for direction in ("sendonly", "inactive"):
        blind = make_offer().replace("a=sendrecv", f"a={direction}")
        with pytest.raises(OfferRefused, match="send you video"):
            check_offer(blind, "avatar")


def test_mutated_offers_never_raise_anything_else(offer: str) -> None:
    dice = random.Random(7)
    for _ in range(500):
        text = list(offer)
        for _ in range(dice.randrange(1, 30)):
            place = dice.randrange(len(text))
            text[place] = dice.choice(["", "\r\n", "m=", chr(dice.randrange(32, 1000)), text[0]])
        try:
            check_offer("".join(text), dice.choice(["live", "avatar"]))
        except OfferRefused:
            continue


def test_an_answer_lets_the_camera_begin_with_a_clear_picture() -> None:
    answer = "\r\n".join(
        [
            "v=0",
            "m=video 9 UDP/TLS/RTP/SAVPF 97 98 99",
            "a=rtpmap:97 VP8/90000",
            "a=rtpmap:98 rtx/90000",
            "a=fmtp:98 apt=97",
            "a=rtpmap:99 H264/90000",
            "a=fmtp:99 packetization-mode=1",
            "",
        ]
    )
    tuned = tune_answer(answer).split("\r\n")
    assert "a=fmtp:97 x-google-start-bitrate=1200" in tuned
    assert "a=fmtp:99 packetization-mode=1;x-google-start-bitrate=1200" in tuned
    assert "a=fmtp:98 apt=97" in tuned
