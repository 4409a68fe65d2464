"""What Prometheus can read at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

MS_BUCKETS = (1, 2, 5, 10, 20, 40, 60, 80, 120, 160, 240, 320, 400, 500, 700, 1000, 2000)


class Metrics:
    """The counters of one server; a registry of its own, so that tests can have several."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.sessions = Gauge("lipwire_sessions", "Calls now", registry=self.registry)
        self.sessions_limit = Gauge(
            "lipwire_sessions_limit", "Calls that are let in at present", registry=self.registry
        )
        self.started = Counter(
            "lipwire_sessions_started", "Calls begun", ["mode"], registry=self.registry
        )
        self.ended = Counter(
            "lipwire_sessions_ended", "Calls ended", ["reason"], registry=self.registry
        )
        self.resumed = Counter(
            "lipwire_sessions_resumed",
            "Calls that went on over another connection",
            registry=self.registry,
        )
        self.refused = Counter(
            "lipwire_offers_refused", "Offers refused", ["code"], registry=self.registry
        )
        self.stage_ms = Histogram(
            "lipwire_stage_ms",
            "Time of a stage in ms: compute (one batch), hop (first sample in to hop ready), "
            "frame (first sample in to frame released), connect (offer to connected)",
            ["stage"],
            buckets=MS_BUCKETS,
            registry=self.registry,
        )
        self.frames = Counter(
            "lipwire_frames", "Pictures released", ["kind"], registry=self.registry
        )
        self.closed_frames = Counter(
            "lipwire_closed_frames",
            "Frames whose generated mouth was withheld or on its way out, by reason",
            ["reason"],
            registry=self.registry,
        )
        self.dropped = Counter(
            "lipwire_dropped",
            "Pictures or blocks of sound dropped, by queue and reason",
            ["queue", "reason"],
            registry=self.registry,
        )
        self.late_hops = Counter("lipwire_late_hops", "Hops dropped whole", registry=self.registry)
        self.loop_lag_ms = Histogram(
            "lipwire_loop_lag_ms",
            "By how much a timer of the gateway's event loop was late",
            buckets=MS_BUCKETS,
            registry=self.registry,
        )
        self.engine_restarts = Gauge(
            "lipwire_engine_restarts", "Engine processes replaced", registry=self.registry
        )
        self.engine_busy = Gauge(
            "lipwire_engine_busy", "Share of time the engine computes", registry=self.registry
        )
        self.engine_memory = Gauge(
            "lipwire_engine_memory_bytes", "Largest resident memory", registry=self.registry
        )

    def watch_engine(
        self, restarts: Callable[[], float], busy: Callable[[], float], memory: Callable[[], float]
    ) -> None:
        """Reads the engine's gauges when asked."""
        self.engine_restarts.set_function(restarts)
        self.engine_busy.set_function(busy)
        self.engine_memory.set_function(memory)

    def render(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)
