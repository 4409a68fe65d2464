"""What Prometheus can read at `/metrics`: what this gateway itself counts.

Names end in their unit, counters in `_total`; labels hold words of this program, never a client's.
Times are histograms in seconds whose buckets lie around the budgets: 40 ms of a frame, 160 of a
hop, 400 from a voice to its picture.
"""

from __future__ import annotations

import platform
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from engine.gate import ClosedReason
from server.engine_link.messages import Mode
from server.release import server_version
from server.webrtc.rtp_metrics import RtpMetrics

STAGE_BUCKETS_S = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.24, 0.32, 0.4, 0.5, 0.7, 1, 2,
)  # fmt: skip
CALL_BUCKETS_S = (1, 5, 15, 60, 300, 900, 1800, 3600)

STAGES = (
    "connect",
    "receive",
    "queue",
    "generate",
    "hop",
    "playout",
    "frame",
    "encode",
    "total",
    "rest",
)
FRAME_KINDS = ("synced", "rest", "source")
Transport = Literal["webrtc", "websocket"]
DROPS = (
    ("receive", "behind"),
    ("receive", "late"),
    ("camera", "replaced"),
    ("engine", "no_slot"),
    ("playout", "late"),
    ("playout", "stalled"),
    ("encoder", "behind"),
    ("control", "unread"),
    ("port", "stranger"),
    ("port", "excess"),
)
# Of offers that nothing is wrong with; deploy/prometheus/alerts.yml looks for some of them.
REFUSALS = (
    "server_full", "client_sessions", "client_rate", "draining", "engine_not_ready",
    "no_media_port", "offer_timeout",
)  # fmt: skip


class Metrics:
    """The counters of one server; a registry of its own, so that tests can have several.

    Attributes:
        stages: histograms by stage.
        registry: collectors of other modules may be added to it.
    """

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when a series began: half of the page, and read by nobody
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        build = Gauge(
            "lipwire_build_info", "1: what runs", ["version", "python"], registry=registry
        )
        build.labels(server_version(), platform.python_version()).set(1)
        self.sessions = Gauge("lipwire_sessions", "Calls now", registry=registry)
        self.viewers = Gauge(
            "lipwire_viewers", "Viewers of published streams now", registry=registry
        )
        self.sessions_limit = Gauge(
            "lipwire_sessions_limit", "Calls that are let in at present", registry=registry
        )
        self.started = Counter(
            "lipwire_sessions_started", "Calls begun", ["mode", "transport"], registry=registry
        )
        self.ended = Counter(
            "lipwire_sessions_ended", "Calls ended", ["transport", "reason"], registry=registry
        )
        self.lasted = Histogram(
            "lipwire_session_seconds",
            "How long calls lasted, from offer to end",
            buckets=CALL_BUCKETS_S,
            registry=registry,
        )
        self.resumed = Counter(
            "lipwire_sessions_resumed",
            "Calls that went on over another connection",
            registry=registry,
        )
        self.refused = Counter(
            "lipwire_offers_refused", "Calls not let in", ["code"], registry=registry
        )
        self.denied = Counter(
            "lipwire_requests_denied",
            "Requests without a token that allows them, or from a page elsewhere",
            ["code"],
            registry=registry,
        )
        stage = Histogram(
            "lipwire_stage_seconds",
            "How long a stage took, see docs/operations.md",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        self.stages = {name: stage.labels(name) for name in STAGES}
        frames = Counter("lipwire_frames", "Pictures released", ["kind"], registry=registry)
        self.frames = {kind: frames.labels(kind) for kind in FRAME_KINDS}
        self.closed_frames = Counter(
            "lipwire_closed_frames",
            "Frames whose generated mouth was withheld or on its way out, by reason",
            ["reason"],
            registry=registry,
        )
        self.dropped = Counter(
            "lipwire_dropped",
            "Pictures, blocks of sound or messages dropped, by queue and reason",
            ["queue", "reason"],
            registry=registry,
        )
        self.late_hops = Counter("lipwire_late_hops", "Hops dropped whole", registry=registry)
        self.hop_frames = Histogram(
            "lipwire_hop_frames",
            "Pictures of a call that the engine made at once",
            buckets=(1, 2, 4, 8, 16),
            registry=registry,
        )
        self.loop_lag = Histogram(
            "lipwire_loop_lag_seconds",
            "By how much a timer of the gateway's event loop was late",
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        self.rtp = RtpMetrics(registry)
        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Series that may stay empty for days: a rate needs a value before the first event."""
        for mode in get_args(Mode):
            for transport in get_args(Transport):
                self.started.labels(mode, transport)
        for reason in get_args(ClosedReason):
            self.closed_frames.labels(reason)
        for queue, reason in DROPS:
            self.dropped.labels(queue, reason)
        for code in REFUSALS:
            self.refused.labels(code)
        for transport in get_args(Transport):
            self.ended.labels(transport, "never_connected")

    def deny(self, code: str) -> None:
        """Counts a request that may not pass."""
        self.denied.labels(code).inc()

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
