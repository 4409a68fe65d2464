"""Noisy pictures through the tuned encoders, as a receiver's decoder gets them."""

from __future__ import annotations

from fractions import Fraction

import aiortc
import numpy as np
from aiortc.jitterbuffer import JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from av import VideoFrame

from server.webrtc.aiortc_encoders import tuned_encoder

VP8 = RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90_000, payloadType=97)
H264 = RTCRtpCodecParameters(mimeType="video/H264", clockRate=90_000, payloadType=99)


def noisy_picture(number: int, size: tuple[int, int] = (320, 240)) -> VideoFrame:
    """Half grey, half noise; the number is its seed and its place in time."""
    noise = np.random.default_rng(number).integers(0, 255, (size[1] * 3 // 2, size[0]), np.uint8)
    noise[:, : size[0] // 2] = 90
    frame = VideoFrame.from_ndarray(noise, format="yuv420p")
    frame.pts, frame.time_base = number * 3600, Fraction(1, 90_000)
    return frame


def encoded(codec: RTCRtpCodecParameters, count: int) -> list[JitterFrame]:
    """So many pictures, the 16th a key frame by order."""
    encoder = tuned_encoder(codec)
    frames = []
    for number in range(count):
        payloads, timestamp = encoder.encode(noisy_picture(number), force_keyframe=number == 15)
        data = b"".join(aiortc.codecs.depayload(codec, payload) for payload in payloads)
        frames.append(JitterFrame(data=data, timestamp=timestamp))
    return frames
