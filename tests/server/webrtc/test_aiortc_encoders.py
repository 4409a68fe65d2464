"""The encoders: one picture in, one out, and opened anew only when they must be."""

from __future__ import annotations

import aiortc
import av
import pytest
from aiortc.codecs import get_decoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from av import VideoFrame

from server.webrtc.aiortc_encoders import TunedH264Encoder, TunedVp8Encoder, tuned_encoder
from server.webrtc.aiortc_jitter import is_keyframe
from tests.encoded_pictures import H264, VP8, encoded, noisy_picture


@pytest.mark.parametrize("codec", [VP8, H264], ids=["vp8", "h264"])
def test_encoded_pictures_decode_one_for_one(codec: RTCRtpCodecParameters) -> None:
    decoder = get_decoder(codec)
    for number, frame in enumerate(encoded(codec, 20)):
        pictures = decoder.decode(frame)
        assert len(pictures) == 1 and frame.timestamp == number * 3600
        assert is_keyframe(codec.name, frame.data) == (number in (0, 15))


@pytest.mark.parametrize("codec", [VP8, H264], ids=["vp8", "h264"])
def test_a_size_that_changes_in_mid_call_is_encoded(codec: RTCRtpCodecParameters) -> None:
    encoder = tuned_encoder(codec)
    decoder = get_decoder(codec)
    sizes = []
    for number, size in enumerate([(320, 240), (320, 240), (640, 360), (160, 120)]):
        payloads, timestamp = encoder.encode(noisy_picture(number, size))
        data = b"".join(aiortc.codecs.depayload(codec, payload) for payload in payloads)
        for picture in decoder.decode(JitterFrame(data=data, timestamp=timestamp)):
            assert isinstance(picture, VideoFrame)
            sizes.append((picture.width, picture.height))
    assert sizes == [(320, 240), (320, 240), (640, 360), (160, 120)]


def test_other_codecs_keep_their_own_encoder() -> None:
    opus = RTCRtpCodecParameters(mimeType="audio/opus", clockRate=48_000, payloadType=96)
    assert isinstance(tuned_encoder(opus), aiortc.codecs.opus.OpusEncoder)


@pytest.mark.parametrize("codec", [VP8, H264], ids=["vp8", "h264"])
@pytest.mark.parametrize("size", [(320, 240), (512, 512), (640, 480)])
def test_an_encoder_is_opened_once_while_nothing_changes(
    codec: RTCRtpCodecParameters, size: tuple[int, int]
) -> None:
    encoder = tuned_encoder(codec)
    assert isinstance(encoder, TunedVp8Encoder | TunedH264Encoder)
    for number in range(10):
        encoder.encode(noisy_picture(number % 2, size))
    assert encoder.ladder.openings == 1


@pytest.mark.parametrize("codec", [VP8, H264], ids=["vp8", "h264"])
def test_an_estimate_that_falls_opens_the_encoder_with_less(codec: RTCRtpCodecParameters) -> None:
    encoder = tuned_encoder(codec)
    assert isinstance(encoder, TunedVp8Encoder | TunedH264Encoder)
    encoder.encode(noisy_picture(0))
    before = encoder.target_bitrate
    for estimate in (before, before * 2 // 3):
        encoder.target_bitrate = estimate  # as aiortc hands a REMB on
        encoder.encode(noisy_picture(1))
    assert encoder.ladder.openings == 2
    assert encoder.target_bitrate <= before * 2 // 3


def test_av_is_recent_enough_for_the_encoders() -> None:
    assert {"libvpx", "libx264"} <= av.codecs_available
