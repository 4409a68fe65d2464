"""Between packets of the WebSocket and frames: pcm16, JPEG, H.264; Opus is in `socket_opus`."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import av
import cv2
import numpy as np
from av import AudioFrame, AudioResampler, VideoFrame
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange

from engine.media import FPS
from server.media.av_frames import MAX_CAMERA_PIXELS, VIDEO_CLOCK_HZ, VIDEO_TIME_BASE
from server.media.media_clock import TICK_HZ
from server.media.timeline import I16
from server.protocol import ProtocolError, StartMessage, VideoCodec
from server.websocket.socket_opus import OpusDecoder, OpusEncoder
from server.websocket.wire import KEY_FRAME, US_PER_S, Codec, Packet

JPEG_QUALITY = 85
H264_BITS_PER_PIXEL = 3  # a second: 0.8 Mbit/s at 512 x 512
H264_KEY_FRAMES = 100  # pictures between two, when nobody asks

PictureEncoder = Callable[[VideoFrame, bool], tuple[bytes, int]]


class SoundDecoder:
    """pcm16 packets of one rate to 48 kHz samples."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._resampler = AudioResampler(format="s16", layout="mono", rate=TICK_HZ)

    def decode(self, packet: Packet) -> I16:
        """int16 [n] at 48 kHz.

        Raises:
            ProtocolError: another codec, or a duration that is not the payload's.
        """
        self._check(packet)
        samples = np.frombuffer(packet.payload, "<i2").astype(np.int16)
        if self._rate_hz == TICK_HZ:
            return samples
        frame = self._frame(samples, None)
        parts = [part.to_ndarray().reshape(-1) for part in self._resampler.resample(frame)]
        return np.concatenate(parts).astype(np.int16) if parts else np.zeros(0, np.int16)

    def decode_timed(self, packet: Packet) -> AudioFrame:
        """A frame at the packet's own time, for a microphone.

        Raises:
            ProtocolError: as `decode`.
        """
        self._check(packet)
        samples = np.frombuffer(packet.payload, "<i2").astype(np.int16)
        return self._frame(samples, packet.pts_us * self._rate_hz // US_PER_S)

    def _frame(self, samples: I16, pts: int | None) -> AudioFrame:
        frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = self._rate_hz
        frame.pts = pts
        return frame

    def _check(self, packet: Packet) -> None:
        if packet.codec is not Codec.PCM16:
            raise ProtocolError("bad_packet", f"expected pcm16, got {packet.codec.name.lower()}")
        lasts = len(packet.payload) // 2 * US_PER_S // self._rate_hz
        if abs(lasts - packet.duration_us) > 1:
            raise ProtocolError(
                "bad_packet", f"expected a duration of {lasts} us, got {packet.duration_us}"
            )


class SoundEncoder:
    """48 kHz blocks to pcm16 payloads of one rate."""

    codec = Codec.PCM16

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._resampler = None
        if rate_hz != TICK_HZ:
            self._resampler = AudioResampler(format="s16", layout="mono", rate=rate_hz)

    def encode(self, frame: AudioFrame) -> tuple[bytes, int]:
        """Little-endian samples and their microseconds; none while the resampler fills."""
        frames = [frame] if self._resampler is None else self._resampler.resample(frame)
        payload = b"".join(part.to_ndarray().astype("<i2").tobytes() for part in frames)
        return payload, len(payload) // 2 * US_PER_S // self._rate_hz


def sound_decoder(start: StartMessage) -> SoundDecoder | OpusDecoder:
    """For what a client said that it sends."""
    return OpusDecoder() if start.audio == "opus" else SoundDecoder(start.rate_hz)


def sound_encoder(start: StartMessage) -> SoundEncoder | OpusEncoder:
    """For what a client said that it wants."""
    return OpusEncoder() if start.audio == "opus" else SoundEncoder(start.rate_hz)


class PictureDecoder:
    """A camera's packets to frames, one codec for the call."""

    def __init__(self) -> None:
        self._codec: Codec | None = None
        self._context: VideoCodecContext | None = None

    def decode(self, packet: Packet) -> list[VideoFrame]:
        """Frames on the 90 kHz clock; none from a picture that cannot be decoded.

        Raises:
            ProtocolError: another codec than h264 or jpeg.
        """
        if packet.codec is not self._codec:
            names = {Codec.H264: "h264", Codec.JPEG: "mjpeg"}
            if packet.codec not in names:
                name = packet.codec.name.lower()
                raise ProtocolError("bad_packet", f"expected h264 or jpeg, got {name}")
            context = av.CodecContext.create(names[packet.codec], "r")
            assert isinstance(context, VideoCodecContext)
            context.thread_count = 1  # threads hold pictures back
            context.options = {"max_pixels": str(MAX_CAMERA_PIXELS)}
            self._codec, self._context = packet.codec, context
        assert self._context is not None
        coded = av.Packet(packet.payload)
        coded.pts = packet.pts_us * VIDEO_CLOCK_HZ // US_PER_S
        coded.time_base = VIDEO_TIME_BASE
        try:
            frames = self._context.decode(coded)
        except FFmpegError:
            return []
        if packet.codec is Codec.JPEG:  # whose levels run over the whole range
            frames = [_narrowed(frame) for frame in frames]
        for frame in frames:
            frame.pts, frame.time_base = coded.pts, VIDEO_TIME_BASE
        return frames


def _narrowed(frame: VideoFrame) -> VideoFrame:
    return frame.reformat(
        format="yuv420p", src_color_range=ColorRange.JPEG, dst_color_range=ColorRange.MPEG
    )


def picture_encoder(codec: VideoCodec) -> PictureEncoder:
    """A function of a frame and whether it must be a key frame, to payload and flags."""
    return encode_jpeg if codec == "jpeg" else H264Encoder().encode


def encode_jpeg(frame: VideoFrame, key_frame: bool = True) -> tuple[bytes, int]:
    """A JPEG, and its flags."""
    i420 = np.ascontiguousarray(frame.to_ndarray(format="yuv420p"), np.uint8)
    bgr = cv2.cvtColor(i420, cv2.COLOR_YUV2BGR_I420)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return data.tobytes(), KEY_FRAME


class H264Encoder:
    """Access units in Annex B, without reordering; begins anew when the size changes."""

    def __init__(self) -> None:
        self._context: VideoCodecContext | None = None

    def encode(self, frame: VideoFrame, key_frame: bool) -> tuple[bytes, int]:
        """An access unit, and its flags."""
        context = self._context
        if context is None or (context.width, context.height) != (frame.width, frame.height):
            context = self._context = _h264_context(frame.width, frame.height)
        frame.pict_type = PictureType.I if key_frame else PictureType.NONE
        packets = context.encode(frame)
        flags = KEY_FRAME if any(packet.is_keyframe for packet in packets) else 0
        return b"".join(bytes(packet) for packet in packets), flags


def _h264_context(width: int, height: int) -> VideoCodecContext:
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = VIDEO_TIME_BASE
    context.framerate = Fraction(FPS)
    context.bit_rate = width * height * H264_BITS_PER_PIXEL
    context.gop_size = H264_KEY_FRAMES
    context.thread_count = 1
    context.options = {"preset": "superfast", "tune": "zerolatency", "forced-idr": "1"}
    return context
