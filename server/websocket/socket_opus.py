"""Opus over the WebSocket: packets of 48 kHz, mono, decoded and encoded one by one."""

from __future__ import annotations

from typing import Literal

import av
import numpy as np
from av import AudioFrame
from av.audio.codeccontext import AudioCodecContext
from av.error import FFmpegError

from server.media.media_clock import SOUND_TICKS, TICK_HZ
from server.media.timeline import I16
from server.protocol import ProtocolError
from server.websocket.wire import US_PER_S, Codec, Packet

BIT_RATE = 64_000  # transparent for a voice; pcm16 takes 768,000


class OpusDecoder:
    """A client's packets, of any duration that Opus has."""

    def __init__(self) -> None:
        self._context = _context("r")

    def decode(self, packet: Packet) -> I16:
        """int16 [n] at 48 kHz.

        Raises:
            ProtocolError: another codec, no Opus, or a duration that is not the payload's.
        """
        if packet.codec is not Codec.OPUS:
            raise ProtocolError("bad_packet", f"expected opus, got {packet.codec.name.lower()}")
        try:
            frames = self._context.decode(av.Packet(packet.payload))
        except FFmpegError:
            raise ProtocolError("bad_packet", "expected a packet of Opus") from None
        parts = [frame.to_ndarray().reshape(-1) for frame in frames]
        samples = np.concatenate(parts).astype(np.int16) if parts else np.zeros(0, np.int16)
        lasts = len(samples) * US_PER_S // TICK_HZ
        if abs(lasts - packet.duration_us) > 1:
            raise ProtocolError(
                "bad_packet", f"expected a duration of {lasts} us, got {packet.duration_us}"
            )
        return samples

    def decode_timed(self, packet: Packet) -> AudioFrame:
        """A frame at the packet's own time, for a microphone.

        Raises:
            ProtocolError: as `decode`.
        """
        samples = self.decode(packet).reshape(1, -1)
        frame = AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = TICK_HZ
        frame.pts = packet.pts_us * TICK_HZ // US_PER_S
        return frame


class OpusEncoder:
    """Blocks of 20 ms to a packet each. What is decoded lies 6.5 ms behind, as Opus has it."""

    codec = Codec.OPUS

    def __init__(self) -> None:
        self._context = _context("w")
        self._pts = 0

    def encode(self, frame: AudioFrame) -> tuple[bytes, int]:
        """Payload and duration in microseconds of a block: mono s16 [960] at 48 kHz."""
        block = AudioFrame.from_ndarray(frame.to_ndarray(), format="s16", layout="mono")
        block.sample_rate, block.pts = TICK_HZ, self._pts  # the encoder's own, without holes
        self._pts += SOUND_TICKS
        payload = b"".join(bytes(packet) for packet in self._context.encode(block))
        return payload, SOUND_TICKS * US_PER_S // TICK_HZ

    def encode_samples(self, samples: I16) -> tuple[bytes, int]:
        """The same of at most 960 samples, with silence after them."""
        block = np.zeros((1, SOUND_TICKS), np.int16)
        block[0, : len(samples)] = samples
        return self.encode(AudioFrame.from_ndarray(block, format="s16", layout="mono"))


def _context(mode: Literal["r", "w"]) -> AudioCodecContext:
    context = av.CodecContext.create("libopus", mode)
    assert isinstance(context, AudioCodecContext)
    context.sample_rate, context.layout, context.format = TICK_HZ, "mono", "s16"
    if mode == "w":
        context.bit_rate = BIT_RATE
        context.options = {"application": "voip", "frame_duration": "20"}
    return context
