"""Avatars prepared a little at a time, while hops of others run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.avatar import Avatar, PreparedAvatar, prepare_avatar
from engine.errors import AvatarError
from server.engine_process.avatar_preparing import CROPS, AvatarPreparer
from tests.fakes import FakeBackend, fake_avatar

Told = list[tuple[str, PreparedAvatar | AvatarError]]


def finish(preparer: AvatarPreparer, told: Told, count: int = 1) -> int:
    """Steps until so many are done; the steps."""
    steps = 0
    while len(told) < count:
        more_s = preparer.step()
        assert more_s is not None or len(told) == count
        steps += more_s == 0.0
    return steps


def preparer_of(load: Callable[[Path], Avatar]) -> tuple[AvatarPreparer, FakeBackend, Told]:
    backend, told = FakeBackend(), Told()
    return AvatarPreparer(backend, lambda key, what: told.append((key, what)), load), backend, told


def test_step_by_step_is_what_it_is_at_once() -> None:
    avatar = fake_avatar(frames=2 * CROPS + 1).avatar
    preparer, backend, told = preparer_of(lambda _: avatar)
    preparer.ask("a", Path("a"))
    preparer.ask("a", Path("a"))
    finish(preparer, told)
    assert set(backend.encoded) <= {CROPS, 1}, "no step encodes more"
    [(key, prepared)] = told
    whole = prepare_avatar(avatar, FakeBackend())
    assert key == "a" and isinstance(prepared, PreparedAvatar)
    assert np.array_equal(prepared.masked_latents, whole.masked_latents)
    assert np.array_equal(prepared.ref_latents, whole.ref_latents)
    assert np.array_equal(prepared.affines, whole.affines)
    assert preparer.step() is None


def test_nothing_waits_for_a_clip_that_is_being_decoded() -> None:
    go_on = threading.Event()
    avatar = fake_avatar().avatar

    def load(_: Path) -> Avatar:
        assert go_on.wait(10)
        return avatar

    preparer, backend, told = preparer_of(load)
    preparer.ask("a", Path("a"))
    for _ in range(100):
        more_s = preparer.step()
        assert more_s is not None and more_s > 0
    assert backend.encoded == [] and told == []
    go_on.set()
    finish(preparer, told)


def test_an_avatar_that_cannot_be_prepared_is_told_and_the_next_one_is_prepared() -> None:
    avatar = fake_avatar().avatar

    def load(folder: Path) -> Avatar:
        if folder.name == "bad":
            raise AvatarError("expected a clip")
        if folder.name == "worse":
            raise ZeroDivisionError
        return avatar

    preparer, _, told = preparer_of(load)
    for name in ("bad", "worse", "good"):
        preparer.ask(name, Path(name))
    finish(preparer, told, 3)
    what = dict(told)
    assert str(what["bad"]) == "expected a clip"
    assert isinstance(what["worse"], AvatarError) and "log" in str(what["worse"])
    assert isinstance(what["good"], PreparedAvatar)
