"""What a download may do: come over https, redirects too, and be as long as was promised.

Digests say in the end whether the bytes are right; this keeps a token and the disk from whoever
sits in between until then.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.errors import FetchError
from server.access.origins import is_loopback


def require_https(url: str, what: str) -> None:
    """
    Args:
        what: the address is, for people.

    Raises:
        FetchError: an address that is not https, but for this machine's own.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" and not (
        parts.scheme == "http" and is_loopback(parts.hostname or "")
    ):
        raise FetchError(f"expected {what} to begin with https://, got {parts.scheme}://")


@contextlib.contextmanager
def https_only() -> Iterator[None]:
    """Refuses every request of the hub's client that is not https, whatever redirected it there.

    Raises:
        FetchError: there was one; it was not sent.
    """
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    session = get_session()
    hooks = session.event_hooks

    def check(request: Any) -> None:
        require_https(str(request.url), "every address that the hub redirects to")

    session.event_hooks = {**hooks, "request": [*hooks["request"], check]}
    try:
        yield
    finally:
        session.event_hooks = hooks


class BoundedFile(io.BufferedWriter):
    """A file that is appended to, up to a size.

    Args:
        size: bytes in all.
    """

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._size = size

    def write(self, data: Any) -> int:
        """
        Raises:
            FetchError: more than the size.
        """
        if self.tell() + len(data) > self._size:
            raise FetchError(f"expected {self._size} bytes as promised, more came; not used")
        return super().write(data)
