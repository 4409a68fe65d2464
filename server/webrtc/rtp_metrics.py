"""What the packets of WebRTC connections say: sent, received, lost, jitter, round trips.

aiortc keeps these figures by connection; they are read once a second, beside the watchdog's own
look at them, and what has been added since goes into the server's counters.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from aiortc import RTCPeerConnection
from aiortc.rtcrtpreceiver import RTCRtpReceiver, StreamStatistics
from aiortc.stats import RTCRemoteInboundRtpStreamStats, RTCStatsReport
from prometheus_client import CollectorRegistry, Counter, Histogram

from server.media.av_frames import VIDEO_CLOCK_HZ
from server.media.media_clock import TICK_HZ
from server.webrtc.aiortc_encoders import encoder_openings
from server.webrtc.aiortc_overrides import dropped_frames
from server.webrtc.datagram_guard import DatagramGuard

Direction = Literal["in", "out"]

CLOCK_HZ = {"audio": TICK_HZ, "video": VIDEO_CLOCK_HZ}
JITTER_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
ROUND_TRIP_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)


class RtpMetrics:
    """The families of all connections, in one registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ["direction", "kind"]
        self.packets = Counter(
            "lipwire_rtp_packets", "RTP packets, those sent again too", labels, registry=registry
        )
        self.lost = Counter(
            "lipwire_rtp_packets_lost",
            "RTP packets lost: in, as counted here; out, as the clients report",
            labels,
            registry=registry,
        )
        self.sent_bytes = Counter(
            "lipwire_rtp_sent_bytes", "Payload sent over RTP", ["kind"], registry=registry
        )
        self.jitter = Histogram(
            "lipwire_rtp_jitter_seconds",
            "Interarrival jitter (RFC 3550), each second of each call: in, as measured here; out, "
            "as the clients report",
            labels,
            buckets=JITTER_BUCKETS_S,
            registry=registry,
        )
        self.round_trip = Histogram(
            "lipwire_rtp_round_trip_seconds",
            "Round trip by sender reports, at each report of a client",
            buckets=ROUND_TRIP_BUCKETS_S,
            registry=registry,
        )
        self.rebuilds = Counter(
            "lipwire_encoder_rebuilds",
            "Encoders opened anew for another bitrate or size, each time with a key frame",
            registry=registry,
        )
        for kind in CLOCK_HZ:
            self.sent_bytes.labels(kind)
            for direction in ("in", "out"):
                self.packets.labels(direction, kind)
                self.lost.labels(direction, kind)
                self.jitter.labels(direction, kind)


@dataclass(frozen=True, slots=True)
class _Count:
    """A figure of aiortc's that grows, and the counter that it feeds."""

    key: tuple[str, str, int]  # what, kind, SSRC
    counter: Counter
    value: int


class ConnectionMeter:
    """Reads the figures of one connection again and again."""

    def __init__(self, metrics: RtpMetrics, dropped: Counter) -> None:
        """
        Args:
            dropped: counts by queue and reason.
        """
        self._metrics = metrics
        self._dropped = dropped
        self._seen: Tally[tuple[str, str, int]] = Tally()
        self._reports: dict[str, object] = {}

    def read(
        self,
        connection: RTCPeerConnection,
        report: RTCStatsReport,
        unread: int,
        guard: DatagramGuard,
    ) -> None:
        """Counts what has been added since the last time.

        Args:
            report: the connection's own, of this moment.
            unread: messages that the client had no room for so far.
            guard: what stands before the connection's ports.
        """
        for count in (
            *self._outgoing(report),
            *self._incoming(connection),
            *self._queues(connection, unread),
            *self._refused(guard),
        ):
            # A figure can fall (duplicates make up for losses); a counter cannot.
            added = count.value - self._seen[count.key]
            if added > 0:
                self._seen[count.key] = count.value
                count.counter.inc(added)

    def _outgoing(self, report: RTCStatsReport) -> Iterator[_Count]:
        metrics = self._metrics
        for stats in report.values():
            if stats.type == "outbound-rtp":
                kind, ssrc = stats.kind, stats.ssrc
                packets = metrics.packets.labels("out", kind)
                yield _Count(("sent", kind, ssrc), packets, stats.packetsSent)
                sent_bytes = metrics.sent_bytes.labels(kind)
                yield _Count(("bytes", kind, ssrc), sent_bytes, stats.bytesSent)
            elif isinstance(stats, RTCRemoteInboundRtpStreamStats):
                kind = stats.kind
                lost = metrics.lost.labels("out", kind)
                yield _Count(("sent_lost", kind, stats.ssrc), lost, stats.packetsLost)
                if self._reports.get(stats.id) != stats.timestamp:  # else the one of last time
                    self._reports[stats.id] = stats.timestamp
                    jitter_s = stats.jitter / CLOCK_HZ[kind]
                    metrics.jitter.labels("out", kind).observe(jitter_s)
                    if stats.roundTripTime:
                        metrics.round_trip.observe(stats.roundTripTime)

    def _incoming(self, connection: RTCPeerConnection) -> Iterator[_Count]:
        metrics = self._metrics
        for transceiver in connection.getTransceivers():
            kind, streams = transceiver.kind, _received(transceiver.receiver)
            for ssrc, stream in streams.items():
                packets = metrics.packets.labels("in", kind)
                yield _Count(("received", kind, ssrc), packets, stream.packets_received)
                lost = metrics.lost.labels("in", kind)
                yield _Count(("lost", kind, ssrc), lost, stream.packets_lost)
            if streams:  # beside the media itself there is the stream of what is sent again
                media = max(streams.values(), key=lambda stream: stream.packets_received)
                metrics.jitter.labels("in", kind).observe(media.jitter / CLOCK_HZ[kind])

    def _queues(self, connection: RTCPeerConnection, unread: int) -> Iterator[_Count]:
        yield _Count(("control", "", 0), self._dropped.labels("control", "unread"), unread)
        behind = self._dropped.labels("receive", "behind")
        for transceiver in connection.getTransceivers():
            kind = transceiver.kind
            yield _Count(("behind", kind, 0), behind, dropped_frames(transceiver.receiver.track))
            rebuilds = encoder_openings(transceiver.sender) - 1
            yield _Count(("rebuilds", kind, 0), self._metrics.rebuilds, rebuilds)

    def _refused(self, guard: DatagramGuard) -> Iterator[_Count]:
        for reason, value in (("stranger", guard.strange), ("excess", guard.excess)):
            yield _Count((reason, "", 0), self._dropped.labels("port", reason), value)


def _received(receiver: RTCRtpReceiver) -> dict[int, StreamStatistics]:
    """By SSRC. aiortc's report has one stream a receiver: the retransmissions', once there are."""
    found: dict[int, StreamStatistics] = vars(receiver).get("_RTCRtpReceiver__remote_streams", {})
    return found
