"""A Hugging Face hub on this machine, as huggingface_hub's client sees one.

with StandIn({"owner/name": {"weights.pt": b"..."}}) as hub:
    os.environ["HF_ENDPOINT"] = hub.endpoint

A file's `resolve` address answers with the hub's headers and a redirect to another
address, from where ranges of it can be had, as from the hub's content servers.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

COMMIT = "c0ffee0123456789c0ffee0123456789c0ffee01"


@dataclass
class StandIn:
    """The hub; fields may be changed while it runs.

    Attributes:
        repos: repository -> path -> bytes.
        promised: path -> another SHA-256 than the bytes have.
        padding: path -> bytes that are sent after those that were promised.
        cut_after: path -> bytes after which a connection is cut, once for each entry.
        status: what every request is answered with instead, if not 0.
        requests: (method, path of the file, Range header) of every request for bytes.
        plain: answer as some web server, without the hub's own headers.
    """

    repos: Mapping[str, Mapping[str, bytes]]
    promised: dict[str, str] = field(default_factory=dict)
    padding: dict[str, bytes] = field(default_factory=dict)
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    status: int = 0
    plain: bool = False
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    endpoint: str = ""
    content: str = ""

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"stand_in": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.content = f"http://localhost:{self._server.server_port}"  # another host
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        import huggingface_hub

        huggingface_hub.close_session()  # it keeps its connections, and they keep our threads
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def sent(self, path: str) -> list[str]:
        """The Range headers with which a file's bytes were asked for; "" for the whole."""
        return [ranges for method, name, ranges in self.requests if (method, name) == ("GET", path)]


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    stand_in: StandIn
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.stand_in
        if hub.status:
            return self._empty(hub.status)
        if hub.plain:
            return self._empty(200)
        if match := re.fullmatch(r"/(\w[^/]*/[^/]+)/resolve/([^/]+)/(.+)", self.path):
            repo, revision, path = match.groups()
            if repo not in hub.repos:
                return self._empty(404, {"X-Error-Code": "RepoNotFound"})
            if revision not in ("main", COMMIT):
                return self._empty(404, {"X-Error-Code": "RevisionNotFound"})
            if path not in hub.repos[repo]:
                return self._empty(404, {"X-Error-Code": "EntryNotFound"})
            data = hub.repos[repo][path]
            digest = hub.promised.get(path) or hashlib.sha256(data).hexdigest()
            return self._empty(
                302,
                {
                    "Location": f"{hub.content}/content/{repo}/{path}",
                    "X-Repo-Commit": COMMIT,
                    "X-Linked-Etag": f'"{digest}"',
                    "X-Linked-Size": str(len(data)),
                    "ETag": '"0123456789abcdef"',
                },
            )
        if match := re.fullmatch(r"/content/(\w[^/]*/[^/]+)/(.+)", self.path):
            repo, path = match.groups()
            return self._content(path, hub.repos[repo][path] + hub.padding.get(path, b""))
        return self._empty(404)

    def _content(self, path: str, data: bytes) -> None:
        hub = self.stand_in
        ranges = self.headers.get("Range", "")
        hub.requests.append((self.command, path, ranges))
        start = int(ranges.removeprefix("bytes=").partition("-")[0]) if ranges else 0
        self.send_response(206 if ranges else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        cuts = hub.cut_after.get(path)
        if cuts:
            self.wfile.write(data[start : start + cuts.pop(0)])
            self.close_connection = True
        else:
            self.wfile.write(data[start:])

    def _empty(self, status: int, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""
