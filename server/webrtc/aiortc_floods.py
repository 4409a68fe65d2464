"""Bounds that aiortc lacks on what a packet of a peer may cost.

`aiortc_overrides` puts them in place. `DatagramGuard` counts packets, but one packet can ask for a
lot: 67 bytes of VP8 that claim a picture of 16383 x 16383 (837 MB, 0.7 s of processor time),
fragments of a message that never ends (each looks through all before it), a request for 6000
packets to be sent again.
"""

from __future__ import annotations

from typing import Any

from aiortc import rtcrtpsender, rtcsctptransport
from aiortc.codecs import get_decoder
from aiortc.codecs.base import Decoder
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from server.media.av_frames import MAX_CAMERA_PIXELS
from server.message_rate import RateLimit
from server.webrtc.aiortc_jitter import VP8_START_CODE

RESENT_BURST = 1024  # as many as are kept
RESENT_PER_S = 300.0  # a fifth of a picture's packets at the highest bitrate

SOUND_BURST = 400  # packets; two seconds of lost network hold back 200 of 10 ms
SOUND_PER_S = 200.0  # each is decoded and resampled, whatever is in it

STREAMS = 64  # of SCTP; a call has one data channel
FRAGMENTS = 256  # of one stream, of messages whose end has not come; a message is 16 KiB
FRAGMENT_BYTES = 128 << 10  # of all streams
MISORDERED = 256  # chunks that came before one that is missing
WINDOW_BYTES = 1 << 20  # aiortc's receiver window


# --- pictures --------------------------------------------------------------------


def bounded_decoder(codec: RTCRtpCodecParameters) -> Decoder:
    """aiortc's decoder of a codec, which refuses pictures of more than MAX_CAMERA_PIXELS."""
    decoder = get_decoder(codec)
    if codec.name == "H264":
        context: Any = decoder
        context.codec.options = {"max_pixels": str(MAX_CAMERA_PIXELS)}
    return decoder


def is_too_large(codec: str, data: bytes) -> bool:
    """Whether an encoded picture claims more pixels than are decoded.

    libvpx makes room for a picture before ffmpeg's own limit is asked, so VP8's header is read
    here (RFC 6386, section 9.1); ffmpeg's limit stands before H.264.
    """
    if codec != "VP8" or len(data) < 10 or data[0] & 1 or data[3:6] != VP8_START_CODE:
        return False
    width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (6, 8))
    return width * height > MAX_CAMERA_PIXELS


# --- sound -----------------------------------------------------------------------


def takes_sound(receiver: Any) -> bool:
    """Counts a packet of sound; whether its receiver is to decode it."""
    budget: RateLimit | None = getattr(receiver, "_lipwire_sound", None)
    if budget is None:
        budget = receiver._lipwire_sound = RateLimit(SOUND_BURST, SOUND_PER_S)
    return budget.allows()


# --- packets to send again -------------------------------------------------------

_retransmit = rtcrtpsender.RTCRtpSender._retransmit


async def retransmit(self: rtcrtpsender.RTCRtpSender, sequence_number: int) -> None:
    """Sends a packet again, as long as the peer does not ask for more than it can have lost."""
    budget: RateLimit | None = getattr(self, "_lipwire_resent", None)
    if budget is None:
        budget = RateLimit(RESENT_BURST, RESENT_PER_S)
        self._lipwire_resent = budget  # type: ignore[attr-defined]
    if budget.allows():
        await _retransmit(self, sequence_number)


# --- data channels ---------------------------------------------------------------

_receive_data_chunk = rtcsctptransport.RTCSctpTransport._receive_data_chunk


async def receive_data_chunk(
    self: rtcsctptransport.RTCSctpTransport, chunk: rtcsctptransport.DataChunk
) -> None:
    """Takes a chunk, and ends the connection where too many wait for what is missing.

    Raises:
        ConnectionError: as when the peer has gone.
    """
    await _receive_data_chunk(self, chunk)
    stream = self._inbound_streams.get(chunk.stream_id)
    if (
        len(self._inbound_streams) > STREAMS
        or (stream is not None and len(stream.reassembly) > FRAGMENTS)
        or WINDOW_BYTES - self._advertised_rwnd > FRAGMENT_BYTES
        or len(self._sack_misordered) > MISORDERED
    ):
        raise ConnectionError("expected fewer messages in pieces")
