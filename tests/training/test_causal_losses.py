from __future__ import annotations

import pytest
import torch
from torch import Tensor

from training.causal_losses import BORDER_GAIN, change_loss, errors_of
from training.causal_rollout import Estimate


def test_a_jump_across_a_border_costs_more_than_one_inside_a_hop() -> None:
    truth, weight = torch.zeros(1, 1, 8, 2, 2), torch.ones(2, 2)

    def jump(frame: int) -> Tensor:
        clean = truth.clone()
        clean[:, :, frame:] = 1.0
        return clean

    at_border, inside = (change_loss(jump(frame), truth, 4, weight) for frame in (4, 3))
    assert at_border == pytest.approx(float(BORDER_GAIN * inside))
    # A constant offset changes nothing.
    assert change_loss(truth + 3.0, truth, 4, weight) == 0.0


def test_errors_leave_a_streams_past_out() -> None:
    weight, truth = torch.ones(2, 2), torch.zeros(1, 1, 40, 2, 2)
    clean = truth.clone()
    clean[:, :, :24] = 7.0
    own = Estimate(truth, clean, truth[:, :0])
    errors = errors_of([own], [own], truth, 4, 24, weight)
    assert float(errors.total) == 0.0


def test_the_teacher_is_heard_on_the_warp_which_no_truth_tells() -> None:
    weight, truth = torch.ones(2, 2), torch.zeros(1, 1, 8, 2, 2)
    moved, still = torch.ones(1, 18, 8, 2, 2), torch.zeros(1, 18, 8, 2, 2)
    own, teacher = Estimate(truth, truth, still), Estimate(truth, truth, moved)
    errors = errors_of([own], [teacher], truth, 4, 0, weight)
    assert float(errors.warp) == pytest.approx(1.5) == float(errors.total)
    assert set(errors.named()) == {"truth", "teacher", "warp", "change"}
