"""What an audio encoder's window may look like."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine.errors import ConfigError
from engine.spec import AudioSpec

SPEC = AudioSpec(positions=100, table_positions=1500)


def test_a_plain_spec_has_one_row_a_position_and_no_more_sound_than_its_steps_need() -> None:
    plain = AudioSpec(positions=32)
    assert (plain.table_rows, plain.mel_frames, plain.sound_frames) == (32, 64, 64)
    assert plain.lookahead_samples == 1320
    assert SPEC.table_rows == 1500


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"floor": "rising"}, "an audio floor of"),
        ({"guard": -1}, ">= 0"),
        ({"tail": -1}, ">= 0"),
        ({"positions": 15, "guard": 4, "tail": 2}, "at least 16 audio positions"),
        ({"first_row": 1401}, "within 1500 rows"),
        ({"table_positions": 99}, "within 99 rows"),
    ],
)
def test_impossible_windows_are_refused(changes: dict[str, object], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        replace(SPEC, **changes)  # type: ignore[arg-type]
