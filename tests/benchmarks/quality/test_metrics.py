"""The quality metrics, on series and clips into which faults of known size were planted."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.metrics import (
    F64,
    changes,
    hop_line_db,
    latent_distance,
    look_error,
    phase_error,
    psnr_db,
    seam,
    sharpness,
)
from engine.media import F32, U8

BOX = (8, 8, 56, 56)
HOPS = (2, 4, 8, 16)


def speech_like(frames: int, seed: int) -> F64:
    """Changes with bursts and pauses, as a speaking mouth has them."""
    dice = np.random.default_rng(seed)
    loud = np.convolve(dice.gamma(0.5, 1.0, frames + 8), np.hanning(9), "valid")
    return np.asarray(0.5 + loud * dice.uniform(0.8, 1.2, frames), np.float64)


def with_seams(series: F64, hop: int, factor: float) -> F64:
    planted = series.copy()
    planted[hop - 1 :: hop] *= factor
    return planted


def with_pulses(series: F64, hop: int) -> F64:
    planted = series.copy()
    planted[hop - 1 :: hop] += 4 * series.mean()
    return planted


def clip_of(frames: int, seed: int = 0) -> U8:
    """Smooth noise that moves, with room for faults."""
    dice = np.random.default_rng(seed)
    still = dice.uniform(60, 190, (1, 64, 64, 3))
    return np.asarray(np.round(still + dice.normal(0, 3, (frames, 64, 64, 3))), np.uint8)


@pytest.mark.parametrize("hop", HOPS)
@pytest.mark.parametrize("factor", [1.0, 1.05, 1.3])
def test_a_planted_seam_is_measured_whatever_the_speech_does_there(hop: int, factor: float) -> None:
    truth = [speech_like(600, seed) for seed in (1, 2)]
    noise = np.random.default_rng(3)
    made = [with_seams(0.9 * t * noise.uniform(0.9, 1.1, len(t)), hop, factor) for t in truth]
    found = seam(made, truth, hop)
    assert found is not None
    assert not found.paired
    assert found.excess == pytest.approx(factor, rel=0.03)
    assert found.low <= factor * 1.005 and found.high >= factor * 0.995
    assert found.ratio == pytest.approx(found.excess * found.truth)


@pytest.mark.parametrize("hop", HOPS)
@pytest.mark.parametrize("factor", [1.0, 1.05, 1.3])
def test_a_clip_that_goes_round_twice_needs_no_truth_to_show_its_seam(
    hop: int, factor: float
) -> None:
    unlike = [speech_like(650, seed) for seed in (7, 8)]  # a truth that says nothing
    rounds = [np.tile(speech_like(325, seed), 2) for seed in (1, 2)]
    made = [with_seams(series, hop, factor) for series in rounds]
    found = seam(made, unlike, hop, period=325)
    assert found is not None and found.paired
    assert found.excess == pytest.approx(factor, rel=1e-6)
    assert found.low == pytest.approx(factor, rel=1e-6) == pytest.approx(found.high, rel=1e-6)


def test_short_rounds_with_few_borders_keep_a_sound_interval() -> None:
    rounds = np.tile(speech_like(57, 3), 2)
    found = seam([with_seams(rounds, 16, 1.2)], [rounds], 16, period=57)
    assert found is not None and found.paired
    assert found.low == pytest.approx(1.2) == pytest.approx(found.high)


def test_a_round_of_whole_hops_would_pair_nothing_and_is_refused() -> None:
    series = [np.tile(speech_like(320, 1), 2)]
    with pytest.raises(ValueError, match="multiple of 4"):
        seam(series, series, 4, period=320)


def test_the_interval_of_a_seam_narrows_with_more_frames() -> None:
    def width(frames: int) -> float:
        truth = speech_like(frames, 5)
        noise = np.random.default_rng(6).uniform(0.5, 1.5, frames)
        found = seam([truth * noise], [truth], 8)
        assert found is not None
        return found.high - found.low

    assert width(4000) < 0.5 * width(400)


def test_a_clip_that_holds_still_within_hops_has_a_great_seam() -> None:
    clip = np.repeat(clip_of(40), 4, axis=0)
    series = changes(clip, BOX)
    found = seam([series], [np.ones(len(series))], 4)
    assert found is not None and found.excess > 1000


def test_with_hop_one_every_frame_is_a_border_and_there_is_no_seam_to_measure() -> None:
    series = [speech_like(300, 0)]
    assert seam(series, series, 1) is None
    assert hop_line_db(series, 1) is None


def test_changes_see_the_box_and_nothing_else() -> None:
    clip = np.zeros((3, 64, 64, 3), np.uint8)
    clip[1, 8:56, 8:56] = 10
    clip[2] = clip[1]
    clip[2, :8] = 200
    assert changes(clip, BOX).tolist() == [10.0, 0.0]


@pytest.mark.parametrize("hop", HOPS)
def test_a_pulse_at_the_hop_rate_stands_out_and_speech_alone_does_not(hop: int) -> None:
    plain = [speech_like(1500, seed) for seed in (10, 11)]
    calm = hop_line_db(plain, hop)
    assert calm is not None and abs(calm) < 3.0
    pulsing = [with_pulses(series, hop) for series in plain]
    loud = hop_line_db(pulsing, hop)
    assert loud is not None and loud > 6.0
    elsewhere = [with_pulses(series, 5) for series in plain]
    beside = hop_line_db(elsewhere, hop)
    assert beside is not None and beside < 3.0


def test_a_hop_line_needs_a_whole_segment_and_something_that_moves() -> None:
    assert hop_line_db([speech_like(100, 0)], 4) is None
    assert hop_line_db([np.zeros(300)], 4) is None


def test_an_error_at_one_place_of_the_hop_is_found_there() -> None:
    dice = np.random.default_rng(4)
    truth = [dice.uniform(0, 1, 400).astype(np.float32) for _ in range(2)]
    found: list[F32] = []
    for series in truth:
        read: F32 = (series + 0.1).astype(np.float32)
        read[3::4] += np.float32(0.2)
        found.append(read)
    error = phase_error(found, truth, 4)
    assert error.mean == pytest.approx((0.1, 0.1, 0.1, 0.3), abs=1e-6)
    assert error.spread == pytest.approx(2.0, abs=1e-4)


def test_sharpness_falls_when_a_clip_is_blurred() -> None:
    clip = clip_of(20)
    wide = clip.astype(np.int32)
    soft = (wide + np.roll(wide, 1, axis=1) + np.roll(wide, 1, axis=2)) // 3
    before, after = sharpness(clip, BOX), sharpness(soft.astype(np.uint8), BOX)
    assert (after < 0.75 * before).all()


def test_a_face_that_changes_colour_is_seen_and_a_moved_lip_hardly() -> None:
    truth = np.full((4, 64, 64, 3), 120, np.uint8)
    mask = np.zeros((64, 64), np.float32)
    mask[16:48, 16:48] = 1.0
    tinted = truth.copy()
    tinted[:, 16:48, 16:48, 0] += 6
    assert look_error(tinted, truth, mask) == pytest.approx(np.sqrt(6**2 / 3))
    outside = truth.copy()
    outside[:, :16] = 0
    assert look_error(outside, truth, mask) == pytest.approx(0.0)
    lip = truth.copy()
    lip[:, 30:31, 20:44] += 60
    lip[:, 31:32, 20:44] -= 60
    assert look_error(lip, truth, mask).max() < 0.5


def test_distances_are_of_the_known_size() -> None:
    clip = np.full((5, 64, 64, 3), 100, np.uint8)
    other = clip.copy()
    other[:, 8:56, 8:56] = 110
    assert psnr_db([clip], [other], BOX) == pytest.approx(20 * np.log10(25.5))
    dice = np.random.default_rng(7)
    latents = dice.standard_normal((50, 4, 8, 8)).astype(np.float32)
    moved = latents.copy()
    mask = np.zeros((8, 8), np.float32)
    mask[2:6, 2:6] = 1.0
    moved[..., :2, :] += 100.0  # outside of the generated part
    assert latent_distance([moved], [latents], mask) == 0.0
    moved[..., 2:6, 2:6] += 0.5
    assert latent_distance([moved], [latents], mask) == pytest.approx(0.5, rel=0.05)
