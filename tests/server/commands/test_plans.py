"""`lipwire plans` and the settings of the plan cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.plans.cache import PlanCache
from server.cli import main
from server.config import load_settings
from tests.toy_plans import ToyMaker, toy_key


def test_plans_are_listed_for_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = PlanCache(tmp_path).open(toy_key(), ToyMaker())
    assert main(["plans", "list", "--plans-dir", str(tmp_path)]) == 0
    line, total = capsys.readouterr().out.splitlines()
    assert line.startswith(toy_key().digest()[:12]) and line.endswith("in use")
    assert total.startswith("1 plans")
    assert main(["plans", "list", "--json", "--plans-dir", str(tmp_path)]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["key"] == toy_key().to_dict() and entry["in_use"] is True
    opened.close()


def test_prune_says_what_it_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    PlanCache(tmp_path).open(toy_key(), ToyMaker()).close()
    prune = ["plans", "prune", "--json", "--plans-dir", str(tmp_path)]
    assert main(prune) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert main([*prune, "--max-mb", "0"]) == 0
    assert [entry["digest"] for entry in json.loads(capsys.readouterr().out)] == [
        toy_key().digest()
    ]
    assert PlanCache(tmp_path).plans() == []


def test_the_cache_lies_in_the_users_cache_folder_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_settings().plans is None  # the tests' own environment has it off
    monkeypatch.delenv("LIPWIRE_PLAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_settings().plans == PlanCache(tmp_path / "lipwire" / "plans")
    chosen = load_settings(plans_dir=tmp_path, max_plans_mb=1).plans
    assert chosen == PlanCache(tmp_path, 1 << 20)
    assert load_settings(plan_cache=False).plans is None
