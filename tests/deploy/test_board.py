"""Grafana's board, held to the metrics that a server exposes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.promql import SCRAPED, asked_by, check
from tests.exposition import exposed_labels, exposed_names

BOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "dashboards" / "lipwire.json"
# What has no place on a board of a running server.
NOT_SHOWN = {"process_virtual_memory_bytes"}


@pytest.fixture(scope="module")
def board() -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads(BOARD.read_text(encoding="utf-8"))
    return parsed


def _queries(board: dict[str, Any]) -> list[tuple[str, str]]:
    """Expression, as Grafana sends it, and legend of every query."""
    targets = [target for panel in board["panels"] for target in panel.get("targets", ())]
    return [(_filled(target["expr"]), target.get("legendFormat", "")) for target in targets] + [
        (_filled(item["expr"]), "") for item in board["annotations"]["list"]
    ]


def _filled(expression: str) -> str:
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*")


def test_every_query_asks_for_what_a_server_exposes(board: dict[str, Any]) -> None:
    queries = _queries(board)
    assert len(queries) > 50
    for expression, _ in queries:
        check(expression)


def test_every_metric_is_on_the_board(board: dict[str, Any]) -> None:
    asked = {series.name for expression, _ in _queries(board) for series in asked_by(expression)}
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert exposed_names() - families == NOT_SHOWN


def test_every_query_can_be_narrowed_to_one_server(board: dict[str, Any]) -> None:
    for expression, _ in _queries(board):
        assert all("instance" in series.labels for series in asked_by(expression)), expression


def test_legends_name_labels_that_are_left_after_summing(board: dict[str, Any]) -> None:
    labels = exposed_labels()
    for expression, legend in _queries(board):
        for label in re.findall(r"\{\{(\w+)\}\}", legend):
            assert all(label in labels[series.name] | SCRAPED for series in asked_by(expression)), (
                legend,
                expression,
            )
            if re.search(r"\bsum\b", expression):
                assert re.search(rf"by \([^)]*\b{label}\b", expression), (legend, expression)


def test_rows_come_in_the_order_of_operations_and_panels_do_not_overlap(
    board: dict[str, Any],
) -> None:
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert rows == [
        "Calls", "Latency", "Engine", "Media", "Refusals and drops", "Resources", "Plans",
    ]  # fmt: skip
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + line)
            for column in range(place["w"])
            for line in range(place["h"])
        }
        assert not cells & taken and max(column for column, _ in cells) < 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
