"""Whatever a plan depends on changes its key, and nothing else does."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from engine.plans.cache import PlanCache
from engine.plans.key import PlanKey, canonical_json, served_spec
from tests.tiny_models import TINY_SPEC
from tests.toy_plans import ToyMaker, toy_key

CHANGES: dict[str, Any] = {
    "component": "codec_decoder",
    "graph_sha256": "3" * 64,
    "weights_sha256": "4" * 64,
    "spec": {"resolution": 128, "timesteps": [999], "carry": "causal"},
    "hop_frames": 2,
    "batch": 2,
    "shapes": {"sample": (1, 13, 4, 16, 32)},
    "precision": "f32",
    "backend": "other",
    "versions": {"toy": "1.0", "exporter": "2.14"},
    "device": {"name": "a CPU", "features": "avx2 amx_bf16"},
    "flags": {"threads": "2"},
    "graph_version": 1_000,
    "schema_version": 1_000,
}


def test_every_ingredient_is_changed_below() -> None:
    assert set(CHANGES) == {field.name for field in dataclasses.fields(PlanKey)}


@pytest.mark.parametrize("ingredient", CHANGES)
def test_a_changed_ingredient_builds_another_plan(tmp_path: Path, ingredient: str) -> None:
    cache, maker = PlanCache(tmp_path), ToyMaker()
    assert not cache.open(toy_key(), maker).loaded
    changed = toy_key(**{ingredient: CHANGES[ingredient]})
    assert not cache.open(changed, maker).loaded
    assert cache.open(toy_key(), maker).loaded and cache.open(changed, maker).loaded
    assert maker.builds == 2


def test_the_order_in_which_ingredients_are_named_changes_nothing() -> None:
    turned = toy_key(versions={"exporter": "2.13", "toy": "1.0"})
    assert turned.digest() == toy_key().digest()


def test_the_served_spec_holds_how_a_model_is_run_and_not_what_it_is_called() -> None:
    renamed = dataclasses.replace(TINY_SPEC, name="other", licence="MIT", digests={"a": "b"})
    assert served_spec(renamed) == served_spec(TINY_SPEC)
    fewer = dataclasses.replace(TINY_SPEC, timesteps=(499,))
    assert served_spec(fewer) != served_spec(TINY_SPEC)


def test_numbers_without_a_json_text_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"scale": float("nan")})
