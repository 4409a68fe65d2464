"""What the container's health check says of servers in each state."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from deploy.healthcheck import is_ready


@contextmanager
def _server(status: int) -> Iterator[int]:
    """The port of a server that answers `/readyz` with `status`, anything else with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name is the library's
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("localhost", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_a_server_is_healthy_while_it_takes_calls(
    monkeypatch: pytest.MonkeyPatch, status: int, healthy: bool
) -> None:
    with _server(status) as port:
        monkeypatch.setenv("LIPWIRE_PORT", str(port))
        assert is_ready() is healthy


def test_a_server_that_does_not_listen_or_speaks_no_https_is_not_healthy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with _server(200) as port:
        monkeypatch.setenv("LIPWIRE_PORT", str(port))
        monkeypatch.setenv("LIPWIRE_TLS_CERT", "cert.pem")
        assert not is_ready()
        monkeypatch.delenv("LIPWIRE_TLS_CERT")
    assert not is_ready()
