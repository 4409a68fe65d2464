"""What is expected of the next batch."""

from __future__ import annotations

from server.engine_process.batch_time import BatchTime


def test_what_batches_take_is_expected_of_the_next() -> None:
    batch = BatchTime()
    for _ in range(10):
        batch.note_batch(0.3)
    assert 0.29 < batch.expected_s <= 0.3


def test_hops_are_tried_again_some_time_after_one_took_too_long() -> None:
    batch = BatchTime()
    batch.note_batch(2.0)
    drops = 0
    while batch.expected_s > 0.4:
        batch.note_drop()
        drops += 1
    assert 5 < drops < 15
