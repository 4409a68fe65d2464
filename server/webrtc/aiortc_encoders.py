"""Encoders for aiortc's senders: fast settings, one picture in and one out, a ladder of bitrates.

`server.webrtc.aiortc_overrides` puts `tuned_encoder` in place of `aiortc.codecs.get_encoder`.
"""

from __future__ import annotations

import fractions
import time
from collections.abc import Iterator

import av
from aiortc import RTCRtpSender
from aiortc.codecs import get_encoder
from aiortc.codecs.base import Encoder
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.mediastreams import VIDEO_TIME_BASE, convert_timebase
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from av import VideoFrame
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from server.webrtc.bitrate_ladder import BitrateLadder

FRAME_RATE = 25
KEYFRAME_DISTANCE = 3000  # key frames are made when the receiver asks


class LadderedCodec:
    """A codec that is opened anew when the picture's size or its place on the ladder changes.

    Setting the bitrate of an open one has no effect.
    """

    def __init__(self, name: str) -> None:
        """
        Args:
            name: of the encoder in FFmpeg.
        """
        self.ladder = BitrateLadder()
        self._name = name
        self._codec: VideoCodecContext | None = None
        self._opened: tuple[int, int, int] | None = None

    def encode(self, frame: VideoFrame, *, force_keyframe: bool) -> bytes:
        """The encoded picture."""
        if frame.format.name != "yuv420p":
            frame = frame.reformat(format="yuv420p")
        frame.pict_type = PictureType.I if force_keyframe else PictureType.NONE
        now = time.monotonic()
        bitrate = self.ladder.choose(frame.width * frame.height, now)
        # What was asked for, not what the codec says: x264 rounds its bitrate, and an encoder
        # that is opened for every picture makes nothing but key frames.
        wanted = (frame.width, frame.height, bitrate)
        if self._codec is None or self._opened != wanted:
            self._codec, self._opened = self._open(*wanted), wanted
            self.ladder.openings += 1
        data = b"".join(bytes(packet) for packet in self._codec.encode(frame))
        self.ladder.note_sent(len(data), now)
        return data

    def _open(self, width: int, height: int, bitrate: int) -> VideoCodecContext:
        codec = av.CodecContext.create(self._name, "w")
        assert isinstance(codec, VideoCodecContext)
        codec.width, codec.height = width, height
        codec.bit_rate = bitrate
        codec.pix_fmt = "yuv420p"
        codec.framerate = fractions.Fraction(FRAME_RATE, 1)
        codec.time_base = VIDEO_TIME_BASE
        codec.gop_size = KEYFRAME_DISTANCE
        codec.thread_count = 1
        if self._name == "libvpx":
            codec.qmin, codec.qmax = 2, 56
            codec.options = {
                "deadline": "realtime",
                "cpu-used": "-12",
                "lag-in-frames": "0",
                "noise-sensitivity": "0",
                "static-thresh": "1",
                "error-resilient": "0",
                "minrate": str(bitrate),
                "maxrate": str(bitrate),
                "bufsize": str(bitrate),
                "undershoot-pct": "100",
                "overshoot-pct": "15",
            }
        else:
            codec.profile = "Baseline"
            codec.options = {"preset": "superfast", "tune": "zerolatency", "level": "31"}
        return codec


class TunedVp8Encoder(Vp8Encoder):
    """libvpx at cpu-used -12 without its noise filter."""

    def __init__(self) -> None:
        super().__init__()
        self._laddered = LadderedCodec("libvpx")

    @property
    def ladder(self) -> BitrateLadder:
        return self._laddered.ladder

    def encode(
        self, frame: av.frame.Frame, force_keyframe: bool = False
    ) -> tuple[list[bytes], int]:
        assert isinstance(frame, VideoFrame)
        data = self._laddered.encode(frame, force_keyframe=force_keyframe)
        payloads = self._packetize(data, self.picture_id)
        self.picture_id = (self.picture_id + 1) % (1 << 15)
        assert frame.pts is not None and frame.time_base is not None
        return payloads, convert_timebase(frame.pts, frame.time_base, VIDEO_TIME_BASE)

    @property
    def target_bitrate(self) -> int:
        return self.ladder.current

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self.ladder.hear_estimate(bitrate)


class TunedH264Encoder(H264Encoder):
    """x264 at superfast, one frame in, one frame out."""

    def __init__(self) -> None:
        super().__init__()
        self._laddered = LadderedCodec("libx264")

    @property
    def ladder(self) -> BitrateLadder:
        return self._laddered.ladder

    def _encode_frame(self, frame: VideoFrame, force_keyframe: bool) -> Iterator[bytes]:
        return self._split_bitstream(self._laddered.encode(frame, force_keyframe=force_keyframe))

    @property
    def target_bitrate(self) -> int:
        return self.ladder.current

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self.ladder.hear_estimate(bitrate)


def encoder_openings(sender: RTCRtpSender) -> int:
    """How often a sender's encoder was opened; 0 of one that does not count."""
    encoder = vars(sender).get("_RTCRtpSender__encoder")
    if isinstance(encoder, TunedVp8Encoder | TunedH264Encoder):
        return encoder.ladder.openings
    return 0


def tuned_encoder(codec: RTCRtpCodecParameters) -> Encoder:
    """Our encoder for VP8 and H264, aiortc's for everything else."""
    match codec.mimeType.lower():
        case "video/vp8":
            return TunedVp8Encoder()
        case "video/h264":
            return TunedH264Encoder()
        case _:
            return get_encoder(codec)
