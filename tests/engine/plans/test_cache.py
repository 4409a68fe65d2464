"""A plan is built once, and loaded only where it is what was built."""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.errors import BackendError
from engine.media import F32
from engine.plans import folder as plan_folder
from engine.plans.cache import OpenPlan, PlanCache
from engine.plans.folder import GOLDEN_FILE, MANIFEST_FILE
from tests.toy_plans import BLOB_FILE, FACTOR, ToyMaker, toy_key

KEY = toy_key()
FILES = (MANIFEST_FILE, GOLDEN_FILE, BLOB_FILE)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "first byte flipped": lambda path: flip(path, 0),
    "middle byte flipped": lambda path: flip(path, path.stat().st_size // 2),
    "last byte flipped": lambda path: flip(path, -1),
    "deleted": Path.unlink,
}


def keep(cache: PlanCache) -> Path:
    """The folder of a plan that is kept and not in use."""
    cache.open(KEY, ToyMaker()).close()
    return cache.folder / KEY.digest()


def assert_rebuilt(cache: PlanCache, caplog: pytest.LogCaptureFixture, why: str) -> None:
    maker = ToyMaker()
    with caplog.at_level(logging.WARNING):
        opened = cache.open(KEY, maker)
    assert not opened.loaded and maker.builds == 1
    np.testing.assert_array_equal(opened.plan, FACTOR)
    (record,) = caplog.records
    assert "building it anew" in record.message and why in record.message
    assert cache.open(KEY, maker).loaded


def test_a_plan_is_built_once_and_loaded_after(tmp_path: Path) -> None:
    cache, maker = PlanCache(tmp_path / "new" / "plans"), ToyMaker()
    opened = [cache.open(KEY, maker) for _ in range(3)]
    assert [item.loaded for item in opened] == [False, True, True]
    assert maker.builds == 1
    for item in opened:
        np.testing.assert_array_equal(item.plan, FACTOR)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_a_warning_and_a_rebuild(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, damage: str
) -> None:
    cache = PlanCache(tmp_path)
    DAMAGE[damage](keep(cache) / name)
    assert_rebuilt(cache, caplog, name)


def test_the_manifest_of_another_plan_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, other = PlanCache(tmp_path), toy_key(precision="f32")
    folder = keep(cache)
    cache.open(other, ToyMaker()).close()
    shutil.copyfile(tmp_path / other.digest() / MANIFEST_FILE, folder / MANIFEST_FILE)
    assert_rebuilt(cache, caplog, "precision differ")


def test_a_file_that_nobody_wrote_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = PlanCache(tmp_path)
    (keep(cache) / "more.bin").write_bytes(b"")
    assert_rebuilt(cache, caplog, "more.bin")


@pytest.mark.parametrize("value", [1.001, float("nan")])
def test_a_plan_that_no_longer_computes_its_golden_outputs_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: float
) -> None:
    class ChangedRuntime(ToyMaker):
        def load(self, folder: Path) -> F32:
            return super().load(folder) * np.float32(value)

    cache = PlanCache(tmp_path)
    keep(cache)
    opened = cache.open(KEY, ChangedRuntime())
    assert not opened.loaded
    assert "off its golden values" in caplog.text
    np.testing.assert_array_equal(opened.plan, FACTOR)


def test_a_plan_that_the_runtime_refuses_is_built_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class NewRuntime(ToyMaker):
        def load(self, folder: Path) -> F32:
            raise BackendError("written by an older runtime")

    cache = PlanCache(tmp_path)
    keep(cache)
    assert not cache.open(KEY, NewRuntime()).loaded
    assert "written by an older runtime" in caplog.text


def test_outputs_that_are_not_finite_are_used_and_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    maker = ToyMaker(np.full(4, np.nan, np.float32))
    opened = PlanCache(tmp_path).open(KEY, maker)
    assert opened.use is None and "not kept" in caplog.text
    assert not (tmp_path / KEY.digest()).exists()


def test_a_failed_build_is_the_makers_own_error_and_frees_the_lock(tmp_path: Path) -> None:
    class Failing(ToyMaker):
        def build(self) -> F32:
            raise BackendError("refused")

    cache = PlanCache(tmp_path)
    with pytest.raises(BackendError, match="refused"):
        cache.open(KEY, Failing())
    assert cache.open(KEY, ToyMaker()).use is not None


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("moment", ["the blob", "the golden pair", "the sync"])
def test_on_a_full_disk_the_plan_is_used_and_the_log_says_why_it_is_not_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    moment: str,
) -> None:
    cache = PlanCache(tmp_path)
    maker = ToyMaker(saving=full if moment == "the blob" else None)
    with monkeypatch.context() as patch:
        if moment == "the golden pair":
            patch.setattr(plan_folder, "save_file", full)
        elif moment == "the sync":
            patch.setattr(os, "fsync", full)
        opened = cache.open(KEY, maker)
    np.testing.assert_array_equal(opened.plan, FACTOR)
    assert opened.use is None and maker.builds == 1
    assert f"the disk of {tmp_path} is full" in caplog.text and "not kept" in caplog.text
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    assert cache.open(KEY, ToyMaker()).use is not None


def test_where_no_folder_can_be_made_the_plan_is_built_without_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "plans").write_text("a file")
    opened = PlanCache(tmp_path / "plans").open(KEY, ToyMaker())
    assert not opened.loaded and opened.use is None
    assert "without the cache" in caplog.text


def kept_plans(cache: PlanCache) -> list[OpenPlan[F32]]:
    """Batches 1, 2, 3, all in use, 1 the least recently used."""
    opened = []
    for batch in (1, 2, 3):
        key = toy_key(batch=batch)
        opened.append(cache.open(key, ToyMaker()))
        os.utime(cache.folder / key.digest() / MANIFEST_FILE, ns=(0, batch * 10**9))
    return opened


def batches(cache: PlanCache) -> list[object]:
    return [info.key["batch"] for info in cache.plans()]


def test_the_least_recently_used_plan_goes_first_and_none_in_use(tmp_path: Path) -> None:
    roomy = PlanCache(tmp_path)
    oldest, middle, newest = kept_plans(roomy)
    assert [info.in_use for info in roomy.plans()] == [True] * 3
    assert roomy.prune(max_bytes=0) == []
    middle.close()
    newest.close()
    size = sum(info.size_bytes for info in roomy.plans())
    tight = PlanCache(tmp_path, max_bytes=size)
    fourth = tight.open(toy_key(batch=4), ToyMaker())
    assert batches(tight) == [1, 3, 4]
    oldest.close()
    assert [info.key["batch"] for info in tight.prune(max_bytes=0)] == [1, 3]
    assert batches(tight) == [4]
    fourth.close()
    tight.prune(max_bytes=0)
    assert list(tmp_path.iterdir()) == []


def test_loading_a_plan_makes_it_the_most_recently_used(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    for opened in kept_plans(cache):
        opened.close()
    cache.open(toy_key(batch=1), ToyMaker()).close()
    assert batches(cache) == [2, 3, 1]


def test_a_plan_is_in_use_as_long_as_its_object_lives(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    opened = cache.open(KEY, ToyMaker())
    assert cache.plans()[0].in_use
    del opened
    assert not cache.plans()[0].in_use


def test_a_plan_larger_than_the_limit_is_used_and_not_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    opened = PlanCache(tmp_path, max_bytes=100).open(KEY, ToyMaker())
    assert opened.use is None and "may hold 100" in caplog.text
    assert PlanCache(tmp_path).plans() == []


def test_prune_removes_damaged_plans_and_list_names_the_damage(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path)
    os.truncate(keep(cache) / MANIFEST_FILE, 10)
    (info,) = cache.plans()
    assert "manifest.json is damaged" in info.problem and info.key == {}
    assert cache.prune() == [info]
    assert cache.plans() == []


def test_nothing_is_kept_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path / "absent")
    assert cache.plans() == [] and cache.prune() == []
