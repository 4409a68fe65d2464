"""Where nothing is to be built or nothing can be written, plans that are there are still used."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import PlanMissing
from engine.plans.cache import PlanCache
from engine.plans.events import PlanEvent
from engine.plans.file_lock import FileLock
from tests.toy_plans import BLOB_FILE, FACTOR, ToyMaker, toy_key

KEY = toy_key()
NAME = f"unet \\({KEY.digest()[:12]}\\)"


def keep(cache: PlanCache) -> Path:
    cache.open(KEY, ToyMaker()).close()
    return cache.folder / KEY.digest()


def make_read_only(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Lets nothing be written below a folder, as a file system that is mounted so (modes do not
    bind the root user)."""

    def below(path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and Path(path).is_relative_to(folder)

    def refusing(name: str, writes: Callable[[tuple[Any, ...]], bool]) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **named: Any) -> Any:
            if below(arguments[0]) and writes(arguments):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(arguments[0]))
            return real(*arguments, **named)

        monkeypatch.setattr(os, name, call)

    refusing("open", lambda given: bool(given[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)))
    for name in ("mkdir", "rename", "unlink", "utime", "rmdir"):
        refusing(name, lambda given: True)


def test_a_kept_plan_is_loaded_and_marked_as_in_use(tmp_path: Path) -> None:
    cache, maker = PlanCache(tmp_path), ToyMaker()
    keep(cache)
    opened = cache.loading_only().open(KEY, maker)
    assert opened.loaded and opened.use is not None and maker.builds == 0
    np.testing.assert_array_equal(opened.plan, FACTOR)


def test_what_is_not_there_is_missing_and_not_built(tmp_path: Path) -> None:
    cache, maker = PlanCache(tmp_path / "plans").loading_only(), ToyMaker()
    with pytest.raises(PlanMissing, match=f"there is no plan of {NAME}"):
        cache.open(KEY, maker)
    assert maker.builds == 0 and not cache.folder.exists()


def test_a_damaged_plan_is_missing_and_left_for_a_builder(tmp_path: Path) -> None:
    cache, maker = PlanCache(tmp_path), ToyMaker()
    os.truncate(keep(cache) / BLOB_FILE, 10)
    with pytest.raises(PlanMissing, match=r"factor\.bin is not as it was written"):
        cache.loading_only().open(KEY, maker)
    assert maker.builds == 0
    assert not cache.open(KEY, maker).loaded and maker.builds == 1


def test_a_plan_that_another_process_is_at_work_on_is_not_waited_for(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    folder = keep(cache)
    lock = FileLock.take(folder.with_suffix(".lock"), "alone", create=True)
    with pytest.raises(PlanMissing, match="another process is at work"):
        cache.loading_only().open(KEY, ToyMaker())
    lock.release()
    assert cache.loading_only().open(KEY, ToyMaker()).loaded


@pytest.mark.parametrize("builds", [True, False])
def test_a_plan_in_a_folder_that_cannot_be_written_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, builds: bool
) -> None:
    cache, maker = PlanCache(tmp_path, builds=builds), ToyMaker()
    keep(PlanCache(tmp_path))
    make_read_only(monkeypatch, tmp_path)
    opened = cache.open(KEY, maker)
    assert opened.loaded and opened.use is None and maker.builds == 0


@pytest.mark.parametrize("damaged", [True, False])
def test_what_a_folder_that_cannot_be_written_lacks_is_built_for_its_user(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damaged: bool,
) -> None:
    maker = ToyMaker()
    if damaged:
        os.truncate(keep(PlanCache(tmp_path)) / BLOB_FILE, 10)
    make_read_only(monkeypatch, tmp_path)
    opened = PlanCache(tmp_path).open(KEY, maker)
    assert not opened.loaded and opened.use is None and maker.builds == 1
    assert "built without the cache" in caplog.text
    assert ("factor.bin is not as it was written" in caplog.text) == damaged
    with pytest.raises(PlanMissing):
        PlanCache(tmp_path).loading_only().open(KEY, maker)


def test_a_watcher_hears_what_happens_to_plans(tmp_path: Path) -> None:
    heard: list[PlanEvent] = []
    cache = PlanCache(tmp_path, watcher=heard.append)
    folder = keep(cache)
    cache.open(KEY, ToyMaker()).close()
    os.truncate(folder / BLOB_FILE, 10)
    cache.open(KEY, ToyMaker()).close()
    assert heard == [
        PlanEvent("building", "unet"),
        PlanEvent("built", "unet"),
        PlanEvent("loaded", "unet"),
        PlanEvent("rejected", "unet", "damaged"),
        PlanEvent("building", "unet"),
        PlanEvent("built", "unet"),
    ]
    assert cache.size_bytes() == cache.plans()[0].size_bytes > 0
    assert PlanCache(tmp_path / "absent").size_bytes() == 0
