"""People for the gate's scenes."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.gate_scenes import in_tone, people
from training.faces.identity import SKIN_TONES


@pytest.mark.parametrize("tone", [0, len(SKIN_TONES) - 1])
def test_another_tone_changes_skin_and_lips_and_nothing_else(tone: int) -> None:
    person = people(6)[5]
    toned = in_tone(person, tone)
    assert toned.identity.skin == pytest.approx(SKIN_TONES[tone])
    darker = sum(toned.identity.skin) < sum(person.identity.skin)
    assert (sum(toned.identity.lip) < sum(person.identity.lip)) == darker
    back = dataclasses.replace(toned.identity, skin=person.identity.skin, lip=person.identity.lip)
    assert (back, toned.lights) == (person.identity, person.lights)
