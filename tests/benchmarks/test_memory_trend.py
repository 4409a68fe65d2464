"""Growth is told from noise, jumps and waves."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.memory_trend import trend

HOUR_S = 3600.0
SECONDS = np.arange(0.0, HOUR_S, 10.0)


def noise(seed: int = 0) -> np.ndarray:
    """Drifting noise: neighbours depend on each other, as readings of memory do."""
    dice = np.random.default_rng(seed)
    return np.convolve(dice.standard_normal(len(SECONDS) + 30), np.ones(30) / 6, "valid")[:-1]


@pytest.mark.parametrize("seed", range(5))
def test_noise_around_a_level_does_not_grow(seed: int) -> None:
    found = trend(SECONDS, 170 + noise(seed), 240, 1200)
    assert found is not None and not found.grows(2.0)
    assert abs(found.level - 170) < 2 and found.blocks == 10


@pytest.mark.parametrize("seed", range(5))
def test_growth_below_the_noise_of_one_reading_is_seen(seed: int) -> None:
    found = trend(SECONDS, 170 + 12 * SECONDS / HOUR_S + noise(seed), 240, 600)
    assert found is not None and found.grows(2.0)
    assert found.low < 12 < found.high


def test_a_burst_and_the_warm_up_do_not_count() -> None:
    values = 170 + noise()
    values[:100] -= np.linspace(80, 0, 100)
    values[200:210] += 500
    found = trend(SECONDS, values, 240, 1200)
    assert found is not None and not found.grows(2.0)


def test_too_few_blocks_say_nothing() -> None:
    assert trend(SECONDS[:90], np.ones(90), 240, 0) is None
    assert trend(SECONDS, np.ones(len(SECONDS)), 240, HOUR_S) is None
