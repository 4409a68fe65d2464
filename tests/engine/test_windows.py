"""Windows cover every frame once and ask for exactly the look-ahead the model has."""

from __future__ import annotations

import pytest

from engine.errors import StreamError
from engine.media import FRAME_SAMPLES
from engine.spec import AudioSpec
from engine.windows import due_sample, frames_of, mel_window, plan_window, samples_needed

AUDIO = AudioSpec(width=8, layers=1, heads=2, positions=32)
GUARDED = AudioSpec(width=8, layers=1, heads=2, positions=32, guard=2, tail=4)


@pytest.mark.parametrize("hop", [1, 2, 4, 8, 16])
def test_hops_tile_the_frames_and_windows_end_with_them(hop: int) -> None:
    seen: list[int] = []
    for index in range(40 // hop):
        plan = plan_window(index, hop, 16)
        seen += plan.new
        assert plan.positions == range(16 - hop, 16)
        assert plan.context.stop == plan.new.start
        assert len(plan.context) == min(plan.new.start, 16 - hop)
        assert len(plan.valid) == 16 - hop
        assert sum(plan.valid) == len(plan.context)
        assert plan.valid == tuple(sorted(plan.valid))
        assert plan.context_positions.stop == plan.positions.start
    assert seen == list(range(40 // hop * hop))


def test_context_does_not_reach_behind_a_reset() -> None:
    plan = plan_window(5, 4, 16, start_frame=3, context_start=19)
    assert plan.new == range(23, 27)
    assert plan.context == range(19, 23)
    assert plan.valid == (False,) * 8 + (True,) * 4
    assert plan.context_positions == range(8, 12)


@pytest.mark.parametrize("audio", [AUDIO, GUARDED])
def test_a_hop_is_due_when_its_look_ahead_has_arrived(audio: AudioSpec) -> None:
    for frames in (range(0, 1), range(0, 4), range(8, 16)):
        expected = frames.stop * FRAME_SAMPLES + audio.lookahead_samples
        assert due_sample(frames, audio) == expected


def test_a_guard_step_costs_twenty_milliseconds_and_a_tail_nothing() -> None:
    assert AUDIO.lookahead_samples == 1320
    assert GUARDED.lookahead_samples == 1320 + 2 * 320
    assert mel_window(10, GUARDED) == range(56 - 2 * 28, 56)
    assert len(mel_window(3, GUARDED)) == GUARDED.sound_frames == GUARDED.mel_frames - 8


def test_the_first_frames_window_reaches_before_the_start() -> None:
    assert mel_window(0, AUDIO) == range(12 - 64, 12)
    assert mel_window(10, AUDIO) == range(52 - 64, 52)
    assert samples_needed(range(0, 1), AUDIO).start == (12 - 64) * 160 - 200


def test_a_started_frame_counts_as_a_frame() -> None:
    assert [frames_of(n) for n in (0, 1, 640, 641)] == [0, 1, 1, 2]


@pytest.mark.parametrize(("index", "hop"), [(-1, 4), (0, 0), (0, 17)])
def test_impossible_hops_are_refused(index: int, hop: int) -> None:
    with pytest.raises(StreamError, match="expected hop_index"):
        plan_window(index, hop, 16)
