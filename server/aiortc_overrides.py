"""Every change that Lipwire makes to aiortc, put in its place here, pinned to its version.

    override            cause (measured)                                 remove when aiortc
    audio level         per-sample Python loop, 327 us a 20 ms frame     computes it natively
    video jitter        a frame waits for the next frame's packet, +40   releases on the marker bit
      buffer              ms; an outage freezes video for 7 s              and times holes out
    audio jitter        prefetch of 4 adds 80 ms; 1 % loss settles at    releases in order at once
      buffer              600 ms                                           and skips what is lost
    what waited         one frame comes out a packet: what waited        releases all that is ready
      behind a hole       behind a hole stays late for good
    retransmissions     asked for once, and 128 packets are kept: what   asks again until they come
                          was lost twice never comes
    damaged pictures    after a loss, pictures are decoded from wrong    waits for a key frame
                          ones until a key frame comes
    encoders            x264 at preset medium 24.7 ms a 512 px frame,    lets settings be passed
      and bitrate         VP8 8.2 ms; 10 % bitrate changes reopen the
                          encoder: a key frame each
    decode and track    both queues are unbounded: +42 MB/s when a       bounds them
      queues              track is not read
    sender reports      stamped with the sending time, so that a         stamps them with media time
                          receiver cannot correct a skew of tracks

`apply()` does nothing but warn under any other version of aiortc: the server
then runs with stock behaviour. The digests of what is replaced stand in
`tests/server/test_aiortc_overrides.py`, which fails when upstream changes.
"""

from __future__ import annotations

import asyncio
import fractions
import logging
import math
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import aiortc
import av
import numpy as np
from aiortc import rtcpeerconnection, rtcrtpreceiver, rtcrtpsender, rtp
from aiortc.codecs import get_decoder, get_encoder, is_rtx
from aiortc.codecs.base import Encoder
from aiortc.codecs.h264 import H264Encoder
from aiortc.codecs.vpx import Vp8Encoder
from aiortc.jitterbuffer import JitterFrame
from aiortc.mediastreams import VIDEO_TIME_BASE, MediaStreamTrack, convert_timebase
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtcpSrPacket, RtpPacket
from av import AudioFrame, VideoFrame
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from server.aiortc_jitter import (
    KEYFRAME_INTERVAL_S,
    SoundJitterBuffer,
    VideoJitterBuffer,
    is_keyframe,
)
from server.aiortc_nack import Retransmissions
from server.av_frames import VIDEO_CLOCK_HZ
from server.tracks import PlayoutTrack

logger = logging.getLogger(__name__)

AIORTC_VERSION = "1.16.0"

SENT_PACKETS = 1024  # kept for retransmission: 3 s at the highest bitrate
DECODE_BACKLOG = 12  # encoded pictures that may wait for the decoder
TRACK_BOUND = {"audio": 10, "video": 2}  # decoded frames that may wait for the session

FRAME_RATE = 25
KEYFRAME_DISTANCE = 3000  # key frames are made when the receiver asks
MIN_BITRATE = 250_000
MAX_BITRATE = 3_000_000
BITS_PER_PIXEL = 0.12  # of the first second, and half of the most that is ever spent
LADDER = 1.25  # ratio of neighbouring bitrates
HYSTERESIS_S = 2.0


# --- audio level -----------------------------------------------------------------


def audio_level_dbov(frame: AudioFrame) -> int:
    """Level of a frame, -127 (silence) to 0 (RFC 6465, appendix A)."""
    count = frame.samples * len(frame.layout.channels)
    samples = np.frombuffer(bytes(frame.planes[0]), np.int16, count).astype(np.float32)
    power = float(np.mean(np.square(samples))) if count else 0.0
    if power <= 0:
        return -127
    return round(min(max(10 * math.log10(power / 32767**2), -127.0), 0.0))


# --- receiving -------------------------------------------------------------------

_handle_rtp_packet = rtcrtpreceiver.RTCRtpReceiver._handle_rtp_packet


async def handle_rtp_packet(
    self: rtcrtpreceiver.RTCRtpReceiver, packet: RtpPacket, arrival_time_ms: int
) -> None:
    """Also asks again for what is missing, and decodes all that a packet set free.

    Upstream asks once, and takes one frame a packet: what waited behind a hole would stay late
    for good.
    """
    receiver: Any = self  # upstream's private names below
    codec = receiver._RTCRtpReceiver__codecs.get(packet.payload_type)
    requests = receiver._RTCRtpReceiver__nack_generator
    buffer = receiver._RTCRtpReceiver__jitter_buffer
    if codec is not None and is_rtx(codec):
        codec = receiver._RTCRtpReceiver__codecs.get(codec.parameters.get("apt"))
        if isinstance(requests, Retransmissions) and len(packet.payload) >= 2:
            original = int.from_bytes(packet.payload[:2], "big")  # RFC 4588, section 4
            requests.note_retransmission(original, time.monotonic())
    if isinstance(buffer, VideoJitterBuffer) and codec is not None:
        buffer.codec = codec.name
    await _handle_rtp_packet(self, packet, arrival_time_ms)
    if codec is None or not isinstance(buffer, SoundJitterBuffer | VideoJitterBuffer):
        return
    while receiver._RTCRtpReceiver__decoder_thread and (frame := buffer.ready()) is not None:
        frame.timestamp = receiver._RTCRtpReceiver__timestamp_mapper.map(frame.timestamp)
        receiver._RTCRtpReceiver__decoder_queue.put((codec, frame))
    if isinstance(requests, Retransmissions) and isinstance(buffer, VideoJitterBuffer):
        buffer.round_trip_s = requests.round_trip_s
        if buffer.wanted_from is not None:
            requests.forget_before(buffer.wanted_from)
        await requests.send(receiver)


def jitter_buffer(
    capacity: int, prefetch: int = 0, is_video: bool = False
) -> SoundJitterBuffer | VideoJitterBuffer:
    """Stands in for aiortc's class; its capacity and prefetch no longer apply."""
    return VideoJitterBuffer() if is_video else SoundJitterBuffer()


# --- decode and track queues -----------------------------------------------------


class NewestQueue(asyncio.Queue[Any]):
    """A queue that drops its oldest entry instead of growing."""

    def __init__(self, bound: int) -> None:
        super().__init__()
        self._bound = bound
        self.dropped = 0

    def put_nowait(self, item: Any) -> None:
        if self.qsize() >= self._bound and item is not None:
            self.get_nowait()
            self.dropped += 1
        super().put_nowait(item)


class BoundedRemoteTrack(rtcrtpreceiver.RemoteStreamTrack):
    """A remote track that keeps only the newest decoded frames."""

    def __init__(self, kind: str, id: str | None = None) -> None:
        super().__init__(kind, id)
        self._queue = NewestQueue(TRACK_BOUND[kind])


def dropped_frames(track: MediaStreamTrack | None) -> int:
    """Decoded frames of a remote track that gave way because the session did not keep up."""
    queue = getattr(track, "_queue", None)
    return queue.dropped if isinstance(queue, NewestQueue) else 0


def decoder_worker(
    loop: asyncio.AbstractEventLoop,
    input_q: queue.Queue[tuple[RTCRtpCodecParameters, JitterFrame] | None],
    output_q: asyncio.Queue[Any],
    decode_error: threading.Event,
) -> None:
    """The decoder's thread. Skips video up to a key frame: at first, in a backlog, after an error.

    What builds on a picture that was not decoded would look damaged.
    """
    decoder: Any = None
    codec_name: str | None = None
    skipping = True
    asked_at = -math.inf
    while (task := input_q.get()) is not None:
        codec, encoded = task
        if codec.name != codec_name:
            decoder, codec_name = get_decoder(codec), codec.name
        if codec.clockRate == VIDEO_CLOCK_HZ:
            skipping = skipping or input_q.qsize() > DECODE_BACKLOG
            if skipping and not is_keyframe(codec.name, encoded.data):
                if time.monotonic() - asked_at >= KEYFRAME_INTERVAL_S:
                    asked_at = time.monotonic()
                    decode_error.set()  # the receiver asks for a key frame
                continue
            skipping = False
        try:
            frames = decoder.decode(encoded)
        except av.FFmpegError as error:
            logger.warning("aiortc: %s picture not decoded: %s", codec.name, error)
            skipping = True
            continue
        for frame in frames:
            _hand_over(loop, output_q, frame)
    _hand_over(loop, output_q, None)


def _hand_over(loop: asyncio.AbstractEventLoop, target: asyncio.Queue[Any], item: Any) -> None:
    try:
        loop.call_soon_threadsafe(target.put_nowait, item)
    except RuntimeError:
        return  # the loop closed while the last picture was being decoded


# --- encoders --------------------------------------------------------------------


class BitrateLadder:
    """The bitrate that an encoder is open with: steps of 25 %, raised at most every 2 s.

    Attributes:
        openings: how often the encoder was opened, each time with a key frame.
    """

    def __init__(self) -> None:
        self.current = 0
        self.openings = 0
        self._wanted: int | None = None
        self._changed_at = -math.inf

    def want(self, bitrate: int) -> None:
        """Notes what the receiver says the path can carry."""
        self._wanted = bitrate

    def choose(self, pixels: int, now: float) -> int:
        """The bitrate to encode with now."""
        first = pixels * FRAME_RATE * BITS_PER_PIXEL
        wanted = first if self._wanted is None else min(self._wanted, 2 * first)
        wanted = min(max(wanted, MIN_BITRATE), MAX_BITRATE)
        step = math.floor(math.log(wanted / MIN_BITRATE, LADDER) + 1e-6)
        rate = int(MIN_BITRATE * LADDER**step)
        settled = now - self._changed_at >= HYSTERESIS_S
        if rate < self.current or (rate > self.current and settled):
            self.current, self._changed_at = rate, now
        return self.current


def _open_codec(
    name: str, frame: VideoFrame, bitrate: int, options: dict[str, str]
) -> VideoCodecContext:
    codec = av.CodecContext.create(name, "w")
    assert isinstance(codec, VideoCodecContext)
    codec.width, codec.height = frame.width, frame.height
    codec.bit_rate = bitrate
    codec.pix_fmt = "yuv420p"
    codec.framerate = fractions.Fraction(FRAME_RATE, 1)
    codec.time_base = VIDEO_TIME_BASE
    codec.gop_size = KEYFRAME_DISTANCE
    codec.thread_count = 1
    codec.options = options
    return codec


def _prepared(frame: VideoFrame, force_keyframe: bool) -> VideoFrame:
    if frame.format.name != "yuv420p":
        frame = frame.reformat(format="yuv420p")
    frame.pict_type = PictureType.I if force_keyframe else PictureType.NONE
    return frame


class TunedVp8Encoder(Vp8Encoder):
    """libvpx at cpu-used -12 without its noise filter."""

    def __init__(self) -> None:
        super().__init__()
        self.ladder = BitrateLadder()

    def encode(
        self, frame: av.frame.Frame, force_keyframe: bool = False
    ) -> tuple[list[bytes], int]:
        assert isinstance(frame, VideoFrame)
        frame = _prepared(frame, force_keyframe)
        bitrate = self.ladder.choose(frame.width * frame.height, time.monotonic())
        size = (frame.width, frame.height)
        if (
            self.codec is None
            or (self.codec.width, self.codec.height) != size
            or self.codec.bit_rate != bitrate
        ):
            self.ladder.openings += 1
            self.codec = _open_codec(
                "libvpx",
                frame,
                bitrate,
                {
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
                },
            )
            self.codec.qmin, self.codec.qmax = 2, 56
        data = b"".join(bytes(packet) for packet in self.codec.encode(frame))
        payloads = self._packetize(data, self.picture_id)
        self.picture_id = (self.picture_id + 1) % (1 << 15)
        assert frame.pts is not None and frame.time_base is not None
        return payloads, convert_timebase(frame.pts, frame.time_base, VIDEO_TIME_BASE)

    @property
    def target_bitrate(self) -> int:
        return self.ladder.current

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self.ladder.want(bitrate)


class TunedH264Encoder(H264Encoder):
    """x264 at superfast, one frame in, one frame out."""

    def __init__(self) -> None:
        super().__init__()
        self.ladder = BitrateLadder()

    def _encode_frame(self, frame: VideoFrame, force_keyframe: bool) -> Iterator[bytes]:
        frame = _prepared(frame, force_keyframe)
        bitrate = self.ladder.choose(frame.width * frame.height, time.monotonic())
        size = (frame.width, frame.height)
        if (
            self.codec is None
            or (self.codec.width, self.codec.height) != size
            or self.codec.bit_rate != bitrate
        ):
            self.ladder.openings += 1
            self.codec = _open_codec(
                "libx264",
                frame,
                bitrate,
                {"preset": "superfast", "tune": "zerolatency", "level": "31"},
            )
            self.codec.profile = "Baseline"
        data = b"".join(bytes(packet) for packet in self.codec.encode(frame))
        return self._split_bitstream(data)

    @property
    def target_bitrate(self) -> int:
        return self.ladder.current

    @target_bitrate.setter
    def target_bitrate(self, bitrate: int) -> None:
        self.ladder.want(bitrate)


def encoder_openings(sender: rtcrtpsender.RTCRtpSender) -> int:
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


# --- sender reports --------------------------------------------------------------

_next_encoded_frame = rtcrtpsender.RTCRtpSender._next_encoded_frame
_send_rtcp = rtcrtpsender.RTCRtpSender._send_rtcp


async def remember_media_time(self: rtcrtpsender.RTCRtpSender, codec: RTCRtpCodecParameters) -> Any:
    """Notes the media time of each encoded frame beside the sender."""
    track = self.track
    encoded = await _next_encoded_frame(self, codec)
    if encoded is not None and isinstance(track, PlayoutTrack):
        self._lipwire_media_ntp = track.media_ntp(encoded.timestamp)  # type: ignore[attr-defined]
    return encoded


async def report_media_time(self: rtcrtpsender.RTCRtpSender, packets: list[Any]) -> None:
    """Puts media time into sender reports, on both tracks from one epoch."""
    ntp: int | None = getattr(self, "_lipwire_media_ntp", None)
    if ntp is not None:
        for packet in packets:
            if isinstance(packet, RtcpSrPacket):
                packet.sender_info.ntp_timestamp = ntp
                # What the receiver echoes, so that the round trip is still found.
                self._RTCRtpSender__lsr = ntp >> 16 & 0xFFFFFFFF  # type: ignore[attr-defined]
    await _send_rtcp(self, packets)


# --- putting them in place -------------------------------------------------------

REPLACEMENTS: tuple[tuple[Any, str, Any], ...] = (
    (rtp, "compute_audio_level_dbov", audio_level_dbov),
    (rtcrtpreceiver, "JitterBuffer", jitter_buffer),
    (rtcrtpreceiver.RTCRtpReceiver, "_handle_rtp_packet", handle_rtp_packet),
    (rtcrtpreceiver, "NackGenerator", Retransmissions),
    (rtcrtpsender, "RTP_HISTORY_SIZE", SENT_PACKETS),
    (rtcrtpreceiver, "decoder_worker", decoder_worker),
    (rtcpeerconnection, "RemoteStreamTrack", BoundedRemoteTrack),
    (rtcrtpsender, "get_encoder", tuned_encoder),
    (rtcrtpsender.RTCRtpSender, "_next_encoded_frame", remember_media_time),
    (rtcrtpsender.RTCRtpSender, "_send_rtcp", report_media_time),
)

STOCK: tuple[tuple[Any, str, Any], ...] = tuple(
    (owner, name, getattr(owner, name)) for owner, name, _ in REPLACEMENTS
)


def apply() -> bool:
    """Replaces what the table above names; False under a version it was not made for."""
    if aiortc.__version__ != AIORTC_VERSION:
        logger.warning(
            "aiortc: overrides are made for %s, found %s; running with stock behaviour",
            AIORTC_VERSION,
            aiortc.__version__,
        )
        return False
    for owner, name, replacement in REPLACEMENTS:
        setattr(owner, name, replacement)
    return True


def restore() -> None:
    """Puts aiortc's own behaviour back: for comparisons and tests."""
    for owner, name, stock in STOCK:
        setattr(owner, name, stock)
