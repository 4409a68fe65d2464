"""The bitrate of a picture: what it deserves, and less only while the path is overused."""

from __future__ import annotations

import pytest

from server.webrtc.bitrate_ladder import (
    HYSTERESIS_S,
    LARGEST_FALL,
    MAX_BITRATE,
    MIN_BITRATE,
    STEP,
    BitrateLadder,
    deserved_bitrate,
)

PIXELS = 512 * 512
DESERVED = deserved_bitrate(PIXELS) // 1000 * 1000


def _send(ladder: BitrateLadder, bitrate: int, now: float) -> None:
    """Notes a second of pictures up to `now`."""
    for step in range(25):
        ladder.note_sent(bitrate // 8 // 25, now - 1.0 + (step + 1) / 25)


def test_larger_pictures_deserve_more_but_less_a_pixel() -> None:
    rates = [deserved_bitrate(w * h) for w, h in [(256, 256), (512, 512), (640, 480), (1280, 720)]]
    assert rates == sorted(rates) and rates[0] == 400_000
    assert rates[-1] / (1280 * 720) < rates[0] / (256 * 256) / 2
    assert deserved_bitrate(16) == MIN_BITRATE and deserved_bitrate(10**9) == MAX_BITRATE


def test_bitrates_are_multiples_of_1000_that_an_encoder_keeps() -> None:
    ladder = BitrateLadder()
    for pixels in range(10_000, 900_000, 12_345):
        assert ladder.choose(pixels, 0.0) % 1000 == 0


def test_an_estimate_made_of_a_still_face_lowers_nothing() -> None:
    """The first one is what arrives, and grows by 8 % a second, far below what speech needs."""
    ladder = BitrateLadder()
    estimate = 100_000.0
    for second in range(5, 60):
        _send(ladder, 100_000 if second < 20 else DESERVED, float(second))
        ladder.hear_estimate(int(estimate))
        estimate *= 1.08
        assert ladder.choose(PIXELS, float(second)) == DESERVED


def test_an_estimate_that_falls_lowers_the_bitrate_to_it_at_once() -> None:
    ladder = BitrateLadder()
    ladder.choose(PIXELS, 0.0)
    ladder.hear_estimate(1_200_000)
    ladder.hear_estimate(700_000)
    rate = ladder.choose(PIXELS, 0.1)
    assert 700_000 / STEP < rate <= 700_000


def test_one_fall_halves_the_bitrate_at_most_and_more_falls_go_on() -> None:
    ladder = BitrateLadder()
    for fall, estimate in enumerate((900_000, 200_000, 150_000, 120_000)):
        ladder.hear_estimate(estimate)
        least = DESERVED / STEP ** (LARGEST_FALL * fall)
        assert ladder.choose(PIXELS, 0.1 * fall) >= max(least, MIN_BITRATE) - 1000
    assert ladder.current < 250_000


def test_it_rises_by_a_step_every_2_s_when_what_is_sent_gets_through() -> None:
    ladder = BitrateLadder()
    ladder.hear_estimate(900_000)
    ladder.hear_estimate(300_000)
    low = ladder.choose(PIXELS, 10.0)
    ladder.hear_estimate(low + 50_000)
    assert ladder.choose(PIXELS, 11.0) == low
    _send(ladder, low, 12.1)
    higher = ladder.choose(PIXELS, 10.0 + HYSTERESIS_S + 0.1)
    assert higher == pytest.approx(low * STEP, abs=2000)
    assert ladder.choose(PIXELS, 12.2) == higher
    _send(ladder, low, 100.0)
    assert ladder.choose(PIXELS, 100.0) > higher


def test_it_does_not_rise_while_the_receiver_gets_less_than_is_sent() -> None:
    ladder = BitrateLadder()
    ladder.hear_estimate(900_000)
    ladder.hear_estimate(300_000)
    low = ladder.choose(PIXELS, 0.0)
    for second in range(1, 30):
        _send(ladder, low, float(second))
        ladder.hear_estimate(int(0.85 * low))
        assert ladder.choose(PIXELS, float(second)) <= low


def test_it_never_exceeds_what_the_picture_deserves() -> None:
    ladder = BitrateLadder()
    for second in range(100):
        ladder.hear_estimate(50_000_000)
        assert ladder.choose(PIXELS, float(second)) == DESERVED
