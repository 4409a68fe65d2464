"""What Prometheus reads."""

from __future__ import annotations

import re
from pathlib import Path

from server.metrics.counters import DROPS, FRAME_KINDS, STAGES, Metrics
from tests.exposition import exposed_labels, exposed_names

OPERATIONS = Path(__file__).resolve().parents[3] / "docs" / "operations.md"


def test_two_servers_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.late_hops.inc(3)
    first.dropped.labels("playout", "late").inc()
    first.stages["frame"].observe(0.3)
    text = first.render().decode()
    assert "lipwire_late_hops_total 3.0" in text
    assert 'lipwire_dropped_total{queue="playout",reason="late"} 1.0' in text
    assert 'lipwire_stage_seconds_bucket{le="0.32",stage="frame"} 1.0' in text
    assert "lipwire_late_hops_total 0.0" in second.render().decode()


def _table() -> list[tuple[str, str]]:
    """Rows of the table of metrics in operations.md: names with labels, and what they are."""
    section = OPERATIONS.read_text(encoding="utf-8").split("## Metrics", 1)[1].split("\n## ", 1)[0]
    cells = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    return [(row[1], row[2]) for row in cells]


def _documented() -> dict[str, set[str]]:
    """Labels of each metric in the table's first column, by its name there."""
    found = {}
    for names, _ in _table():
        for name, labels in re.findall(r"`((?:lipwire|process)_\w+)(?:\{([\w,]+)\})?`", names):
            found[name] = set(labels.split(",")) - {""}
    return found


def test_every_metric_is_documented_and_every_documented_metric_exists() -> None:
    assert set(_documented()) == exposed_names()
    assert len(exposed_names()) > 30


def test_the_documented_labels_are_those_that_samples_have() -> None:
    exposed = exposed_labels()
    assert {name: exposed[name] for name in _documented()} == _documented()


def test_every_stage_kind_and_drop_is_explained() -> None:
    text = OPERATIONS.read_text(encoding="utf-8").split("## Metrics", 1)[1].split("\n## ", 1)[0]
    words = set(re.findall(r"`([\w/]+)`", text))
    wanted = {*STAGES, *FRAME_KINDS, *(f"{queue}/{reason}" for queue, reason in DROPS)}
    assert wanted <= words, f"missing: {sorted(wanted - words)}"


def test_names_follow_the_conventions_of_prometheus() -> None:
    for name in exposed_names():
        assert not re.search(r"_(ms|us|min|percent)(_|$)", name), f"{name}: base units only"
    counters = [
        line.split()[2]
        for line in Metrics().render().decode().splitlines()
        if line.startswith("# TYPE") and line.endswith(" counter")
    ]
    assert counters and all(name.endswith("_total") for name in counters)
