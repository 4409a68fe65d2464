"""Avatars that calls wait for, prepared beside the hops of the calls that go on.

A clip is decoded on a thread of its own; its crops are encoded here, a few at a time, because the
network is the engine loop's alone. Nobody's hop waits longer than for one such step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from engine.avatar import Avatar, AvatarPreparation, PreparedAvatar, load_avatar
from engine.backends.base import Backend
from engine.errors import AvatarError

logger = logging.getLogger(__name__)

CROPS = 4  # a step: as many as a live session's hop has
DECODING_S = 0.01  # until it is worth looking again


class AvatarPreparer:
    """Prepares what it is asked for, one after another.

    Args:
        on_done: told the key of each, with the avatar or why there is none.
    """

    def __init__(
        self,
        backend: Backend,
        on_done: Callable[[str, PreparedAvatar | AvatarError], None],
        load: Callable[[Path], Avatar] = load_avatar,
    ) -> None:
        self._backend = backend
        self._on_done = on_done
        self._load = load
        self._decoder: ThreadPoolExecutor | None = None
        self._decoding: dict[str, Future[Avatar]] = {}
        self._encoding: dict[str, AvatarPreparation] = {}

    def ask(self, key: str, folder: Path) -> None:
        """Begins with an avatar; asked again, it goes on."""
        if key in self._decoding or key in self._encoding:
            return
        if self._decoder is None:
            self._decoder = ThreadPoolExecutor(1)
        self._decoding[key] = self._decoder.submit(self._load, folder)

    def step(self) -> float | None:
        """Does a little; seconds until there is more to do, None where nobody waits."""
        for key, decoding in list(self._decoding.items()):
            if decoding.done():
                del self._decoding[key]
                with self._settling(key):
                    self._encoding[key] = AvatarPreparation(decoding.result(), self._backend, CROPS)
        for key, preparation in list(self._encoding.items())[:1]:
            prepared = None
            with self._settling(key):
                prepared = preparation.step()
            if prepared is not None:
                del self._encoding[key]
                self._on_done(key, prepared)
        if self._encoding:
            return 0.0
        return DECODING_S if self._decoding else None

    @contextmanager
    def _settling(self, key: str) -> Iterator[None]:
        """What goes wrong with one avatar is told, and no more."""
        try:
            yield
        except Exception as error:
            self._encoding.pop(key, None)
            if not isinstance(error, AvatarError):
                logger.error("engine: an avatar could not be prepared", exc_info=error)
                error = AvatarError("the avatar could not be prepared; the server's log says why")
            self._on_done(key, error)
