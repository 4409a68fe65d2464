"""What the packets of a connection say, counted."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any, cast

from aiortc.rtcrtpreceiver import StreamStatistics
from aiortc.stats import (
    RTCOutboundRtpStreamStats,
    RTCRemoteInboundRtpStreamStats,
    RTCStatsReport,
)

from server.metrics.counters import Metrics
from server.webrtc.datagram_guard import DatagramGuard
from server.webrtc.rtp_metrics import ConnectionMeter

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def _sent(packets: int, octets: int) -> RTCOutboundRtpStreamStats:
    return RTCOutboundRtpStreamStats(
        NOON, "outbound-rtp", "o", 1, "video", "t", packets, octets, trackId="v"
    )


def _reported(lost: int, jitter: int, second: int) -> RTCRemoteInboundRtpStreamStats:
    at = NOON + datetime.timedelta(seconds=second)
    return RTCRemoteInboundRtpStreamStats(
        at, "remote-inbound-rtp", "r", 1, "video", "t", 0, lost, jitter, 0.03, 0.0
    )


def _report(*stats: Any) -> RTCStatsReport:
    report = RTCStatsReport()
    for entry in stats:
        report.add(entry)
    return report


def _stream(received: int, lost: int, jitter: int) -> StreamStatistics:
    stream = StreamStatistics(48_000)
    stream.packets_received, stream.base_seq = received, 0
    stream.max_seq, stream._jitter_q4 = received + lost - 1, jitter << 4
    return stream


class Connection:
    """A connection with one transceiver; what it has received may be changed."""

    def __init__(self, kind: str, streams: dict[int, StreamStatistics]) -> None:
        receiver = SimpleNamespace(_RTCRtpReceiver__remote_streams=streams, track=None)
        self._all = [SimpleNamespace(kind=kind, receiver=receiver, sender=SimpleNamespace())]

    def getTransceivers(self) -> list[SimpleNamespace]:  # noqa: N802 (as aiortc's)
        return self._all


def _read(
    meter: ConnectionMeter,
    connection: Connection,
    report: RTCStatsReport,
    unread: int = 0,
    guard: DatagramGuard | None = None,
) -> None:
    meter.read(cast(Any, connection), report, unread, guard or DatagramGuard())


def _value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_what_grows_is_counted_once_and_what_falls_never() -> None:
    metrics, nothing = Metrics(), Connection("video", {})
    meter = ConnectionMeter(metrics.rtp, metrics.dropped)
    for packets, octets, lost in [(10, 1000, 2), (30, 2500, 5), (30, 2500, 4), (31, 2600, 5)]:
        _read(meter, nothing, _report(_sent(packets, octets), _reported(lost, 0, 0)), unread=3)
    out = {"direction": "out", "kind": "video"}
    assert _value(metrics, "lipwire_rtp_packets_total", **out) == 31
    assert _value(metrics, "lipwire_rtp_packets_lost_total", **out) == 5
    assert _value(metrics, "lipwire_rtp_sent_bytes_total", kind="video") == 2600
    assert _value(metrics, "lipwire_dropped_total", queue="control", reason="unread") == 3


def test_connections_add_up() -> None:
    metrics = Metrics()
    for _ in range(2):
        meter = ConnectionMeter(metrics.rtp, metrics.dropped)
        _read(meter, Connection("video", {}), _report(_sent(10, 1000)))
    out = {"direction": "out", "kind": "video"}
    assert _value(metrics, "lipwire_rtp_packets_total", **out) == 20


def test_a_clients_report_is_observed_once_however_often_it_is_read() -> None:
    metrics, nothing = Metrics(), Connection("video", {})
    meter = ConnectionMeter(metrics.rtp, metrics.dropped)
    for second in (1, 1, 2):
        _read(meter, nothing, _report(_reported(0, 900, second)))
    out = {"direction": "out", "kind": "video"}
    assert _value(metrics, "lipwire_rtp_jitter_seconds_count", **out) == 2
    assert _value(metrics, "lipwire_rtp_jitter_seconds_sum", **out) == 0.02, "900 of 90 kHz, twice"
    assert _value(metrics, "lipwire_rtp_round_trip_seconds_count") == 2


def test_what_is_sent_again_counts_beside_the_media_and_does_not_hide_it() -> None:
    metrics = Metrics()
    media, again = _stream(100, 4, 480), _stream(3, 0, 48_000)
    connection = Connection("audio", {7: media, 8: again})
    meter = ConnectionMeter(metrics.rtp, metrics.dropped)
    _read(meter, connection, _report())
    heard = {"direction": "in", "kind": "audio"}
    assert _value(metrics, "lipwire_rtp_packets_total", **heard) == 103
    assert _value(metrics, "lipwire_rtp_packets_lost_total", **heard) == 4
    assert _value(metrics, "lipwire_rtp_jitter_seconds_sum", **heard) == 0.01, "of the media"


def test_what_a_port_did_not_take_is_counted_by_whose_it_was() -> None:
    metrics, nothing = Metrics(), Connection("video", {})
    meter, guard = ConnectionMeter(metrics.rtp, metrics.dropped), DatagramGuard()
    guard.strange, guard.excess = 3, 5
    for _ in range(2):
        _read(meter, nothing, _report(), guard=guard)
    assert _value(metrics, "lipwire_dropped_total", queue="port", reason="stranger") == 3
    assert _value(metrics, "lipwire_dropped_total", queue="port", reason="excess") == 5
