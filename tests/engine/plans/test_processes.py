"""Several processes share the cache, and any of them may be killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from engine.plans.cache import PlanCache
from engine.plans.file_lock import FileLock
from tests.toy_plans import BLOB_FILE, ToyMaker, toy_key

ROOT = Path(__file__).resolve().parents[3]
DIGEST = toy_key().digest()


def start(folder: Path, stop: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.toy_plans", str(folder), stop],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def rest(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.read().split()


def test_of_two_builders_at_once_one_builds_and_the_other_loads(tmp_path: Path) -> None:
    with start(tmp_path, "building") as first, start(tmp_path, "building") as second:
        assert heard(first) == heard(second) == "opening"
        for process in (first, second):
            go_on(process)
        told = [rest(process) for process in (first, second)]
    assert sorted(told) == [["building", "built"], ["loaded"]]


def test_a_builder_killed_half_way_leaves_nothing_that_is_loaded_and_no_lock(
    tmp_path: Path,
) -> None:
    cache = PlanCache(tmp_path)
    with start(tmp_path, "saving") as builder:
        assert [heard(builder), heard(builder)] == ["opening", "saving"]
        half = tmp_path / f".{DIGEST}.building" / BLOB_FILE
        assert half.stat().st_size > 0
        assert FileLock.take_now(tmp_path / f"{DIGEST}.lock", "alone") is None
        assert cache.prune(max_bytes=0) == [] and half.exists()  # at work: left alone
        builder.kill()
    assert half.exists() and cache.plans() == []
    maker = ToyMaker()
    opened = cache.open(toy_key(), maker)
    assert not opened.loaded and maker.builds == 1
    assert not half.parent.exists()
    assert cache.open(toy_key(), maker).loaded


def test_prune_clears_what_a_killed_builder_left(tmp_path: Path) -> None:
    with start(tmp_path, "saving") as builder:
        assert [heard(builder), heard(builder)] == ["opening", "saving"]
        builder.kill()
    assert PlanCache(tmp_path).prune() == []
    assert list(tmp_path.iterdir()) == []


def test_a_lock_on_a_file_that_was_replaced_guards_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held = FileLock.take(path, "alone", create=True)
    assert FileLock.take_now(path, "shared") is None
    path.unlink()
    assert FileLock.take_now(path, "alone", create=True) is not None
    held.release()


def test_shared_holders_exclude_only_those_who_want_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = FileLock.take(path, "shared", create=True)
    second = FileLock.take(path, "shared")
    assert FileLock.take_now(path, "alone") is None
    first.release()
    second.release()
    assert FileLock.take_now(path, "alone") is not None
