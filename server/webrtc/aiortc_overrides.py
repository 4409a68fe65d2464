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
      and bitrate         VP8 8.2 ms; a still face's low estimate is
                          taken for a ceiling, and each change of 10 %
                          opens the encoder anew, with a key frame
    decode and track    both queues are unbounded: +42 MB/s when a       bounds them
      queues              track is not read
    size of pictures    whatever a packet claims is made room for: 837   bounds it
                          MB for 67 bytes of VP8
    packets to send     as many as the peer asks for, 6000 a request     bounds them
      again
    data channels       messages without an end are kept, and each       bounds them
                          piece looks through all of them
    sender reports      stamped with the sending time, so that a         stamps them with media time
                          receiver cannot correct a skew of tracks

`apply()` does nothing but warn under any other version of aiortc: the server
then runs with stock behaviour. The digests of what is replaced stand in
`tests/server/webrtc/test_aiortc_overrides.py`, which fails when upstream changes.
"""

from __future__ import annotations

import asyncio
import logging
import math
import queue
import threading
import time
from typing import Any

import aiortc
import av
import numpy as np
from aiortc import rtcpeerconnection, rtcrtpreceiver, rtcrtpsender, rtcsctptransport, rtp
from aiortc.codecs import is_rtx
from aiortc.jitterbuffer import JitterFrame
from aiortc.mediastreams import MediaStreamTrack
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtcpSrPacket, RtpPacket
from av import AudioFrame

from server.media.av_frames import VIDEO_CLOCK_HZ
from server.media.tracks import PlayoutTrack
from server.webrtc.aiortc_encoders import tuned_encoder
from server.webrtc.aiortc_floods import (
    bounded_decoder,
    is_too_large,
    receive_data_chunk,
    retransmit,
    takes_sound,
)
from server.webrtc.aiortc_jitter import (
    KEYFRAME_INTERVAL_S,
    SoundJitterBuffer,
    VideoJitterBuffer,
    is_keyframe,
)
from server.webrtc.aiortc_nack import Retransmissions

logger = logging.getLogger(__name__)

AIORTC_VERSION = "1.16.0"

SENT_PACKETS = 1024  # kept for retransmission: 3 s at the highest bitrate
DECODE_BACKLOG = 12  # encoded pictures that may wait for the decoder
TRACK_BOUND = {"audio": 50, "video": 2}  # decoded frames that may wait for the session: 1 s, 80 ms


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
    if isinstance(buffer, SoundJitterBuffer) and not takes_sound(self):
        return
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
            decoder, codec_name = bounded_decoder(codec), codec.name
        if codec.clockRate == VIDEO_CLOCK_HZ:
            skipping = skipping or input_q.qsize() > DECODE_BACKLOG
            if skipping and not is_keyframe(codec.name, encoded.data):
                if time.monotonic() - asked_at >= KEYFRAME_INTERVAL_S:
                    asked_at = time.monotonic()
                    decode_error.set()  # the receiver asks for a key frame
                continue
            skipping = is_too_large(codec.name, encoded.data)
            if skipping:
                logger.warning("aiortc: %s picture not decoded: too large", codec.name)
                continue
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
    (rtcrtpsender.RTCRtpSender, "_retransmit", retransmit),
    (rtcsctptransport.RTCSctpTransport, "_receive_data_chunk", receive_data_chunk),
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
