"""Asking a Prometheus for the board: against one that answers every query alike."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks.board_queries import Panel, Series, ask_board, draw, main


@contextmanager
def _prometheus(results: list[dict[str, Any]], status: int = 200) -> Iterator[str]:
    """Its address; what each query gives is `results`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps({"data": {"result": results}}).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_legends_are_filled_in_and_what_is_no_number_is_left_out() -> None:
    result = {"metric": {"instance": "a"}, "values": [[1.0, "NaN"], [2.0, "0.5"]]}
    with _prometheus([result]) as url:
        panels = ask_board(url, 1.0)
    (busy,) = (panel for panel in panels if panel.title == "Engine busy")
    assert busy.row == "Engine"
    assert [(s.label, s.times, s.values) for s in busy.series] == [("a", [2.0], [0.5])]


def test_a_panel_without_data_is_a_failure_that_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with _prometheus([]) as url:
        assert main([url]) == 1
    assert "no data: Calls now, " in capsys.readouterr().err


def test_panels_are_drawn_empty_ones_too(tmp_path: Path) -> None:
    series = Series("a", [1.0, 2.0], [1.0, 2.0])
    panels = [Panel("Engine", "Engine busy", [series]), Panel("Media", "Round trip", [])]
    draw(panels, tmp_path / "board.png")
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")
