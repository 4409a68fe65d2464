"""Reading mouths off crops of a known face."""

from __future__ import annotations

import numpy as np

from benchmarks.quality.material import lips_box
from benchmarks.quality.reader import MouthReader
from tests.tiny_models import TINY_SPEC
from tests.toy_takes import toy_takes

BOX = lips_box(TINY_SPEC.face, TINY_SPEC.resolution)


def test_openings_that_were_never_seen_are_read_off_pictures() -> None:
    for take in toy_takes():
        reader = MouthReader.fit(take.reader, take.reader_mouth, BOX)
        found, truth = reader.read(take.truth)[:, 0], take.speech.mouth[:, 0]
        assert np.corrcoef(found, truth)[0, 1] > 0.99
        assert np.abs(found - truth).mean() < 0.05
        resting = reader.read(take.source)[:, 0]
        assert resting.std() < 1e-5 and resting.mean() < 0.1


def test_nothing_outside_of_the_lips_is_read() -> None:
    take = toy_takes()[0]
    reader = MouthReader.fit(take.reader, take.reader_mouth, BOX)
    elsewhere = take.truth.copy()
    elsewhere[:, : BOX[1]] = 0
    np.testing.assert_array_equal(reader.read(elsewhere), reader.read(take.truth))
