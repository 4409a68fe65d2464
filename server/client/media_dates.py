"""Media time of received RTP timestamps.

An RTP timestamp counts from a random origin. A sender report ties one of them to an NTP time,
and the server dates its reports by media time on both tracks (`server.webrtc.aiortc_overrides`), so
that sound and picture of one NTP time belong together.
"""

from __future__ import annotations

from typing import Any

from aiortc import RTCRtpReceiver

from server.websocket.wire import US_PER_S


class MediaDates:
    """Reads the sender reports of one track. They come about once a second.

    aiortc 1.16 hands them to nobody: its private names are used, as pinned by pyproject.toml.
    """

    def __init__(self, receiver: RTCRtpReceiver) -> None:
        private: Any = receiver
        self._report: tuple[int, int] | None = None
        self._handle = private._handle_rtcp_packet
        self._mapper = private._RTCRtpReceiver__timestamp_mapper
        private._handle_rtcp_packet = self._take

    def date_us(self, timestamp: int, clock_hz: int) -> int | None:
        """NTP time of a frame in microseconds; None until there was a report.

        Args:
            timestamp: of the frame, in ticks of `clock_hz` since the track's first packet.
        """
        origin: int | None = self._mapper._origin
        if self._report is None or origin is None:
            return None
        ntp, rtp = self._report
        ahead = (origin + timestamp - rtp + 2**31) % 2**32 - 2**31
        return (ntp * US_PER_S >> 32) + ahead * US_PER_S // clock_hz

    async def _take(self, packet: Any) -> None:
        info = getattr(packet, "sender_info", None)
        if info is not None and info.rtp_timestamp:  # 0 before the first frame
            self._report = (info.ntp_timestamp, info.rtp_timestamp)
        await self._handle(packet)
