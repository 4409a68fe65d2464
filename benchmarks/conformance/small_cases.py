"""The weight rule, the schedule and the mask: cases without a network."""

from __future__ import annotations

import hashlib
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.conformance.checks import Report
from benchmarks.conformance.folder import (
    Case,
    FixtureError,
    lookup,
    optional,
    read_picture,
    rule_value,
)
from engine.face.align import latentsync_face
from engine.face.mask import keep_mask, latentsync_outline
from engine.sampler import alphas_cumprod, ddim_step, leading_timesteps, predict_x0

LATENT_STEP = 8


def check_weight_rule(case: Case, report: Report) -> None:
    """The worked examples of the rule, exactly."""
    examples = case.get("examples")
    if not examples:
        raise FixtureError(f"{case.name}.json: expected some examples, found none")
    for example in examples:
        key, seed = lookup(example, "key", case.name), lookup(example, "seed", case.name)
        value = rule_value(key, tuple(lookup(example, "shape", case.name)), seed)
        flat = value.reshape(-1)
        have = {
            "seed_for_generator": zlib.crc32(key.encode("utf-8")) ^ seed,
            "first_values": [float(v) for v in flat[: len(example.get("first_values", []))]],
            "last_value": float(flat[-1]),
            "sha256_float32_le": hashlib.sha256(value.astype("<f4").tobytes()).hexdigest(),
        }
        want = {name: lookup(example, name, case.name) for name in have}
        report.equal(case.name, key, have, want)
        total = float(value.sum(dtype=np.float64))
        stored = lookup(example, "sum_float64", case.name)
        report.close(case.name, f"sum of {key}", total, stored, 1e-9 * max(1.0, abs(stored)))


def schedule_alphas(config: dict[str, Any], where: str) -> NDArray[np.float32]:
    """The table of a published scheduler configuration.

    Raises:
        FixtureError: it asks for what this sampler has not.
    """
    fixed = {
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "prediction_type": "epsilon",
        "timestep_spacing": "leading",
        "thresholding": False,
        "rescale_betas_zero_snr": False,
        "trained_betas": None,
    }
    for key, value in fixed.items():
        if config.get(key, value) != value:
            raise FixtureError(f"{where}: {key} = {config[key]!r}, expected {value!r}")
    return alphas_cumprod(
        lookup(config, "num_train_timesteps", where),
        lookup(config, "beta_start", where),
        lookup(config, "beta_end", where),
    )


class PublishedSchedule:
    """Leading timesteps and the alphas on either side of each step."""

    def __init__(self, config: dict[str, Any], steps: int, where: str) -> None:
        self.alphas = schedule_alphas(config, where)
        self.final = 1.0 if config.get("set_alpha_to_one") else float(self.alphas[0])
        stride = len(self.alphas) // steps
        offset = lookup(config, "steps_offset", where)
        self.timesteps = leading_timesteps(steps, offset=offset, train=len(self.alphas))
        self.previous = [timestep - stride for timestep in self.timesteps]
        self.alpha = [float(self.alphas[timestep]) for timestep in self.timesteps]
        self.alpha_next = [float(self.alphas[t]) if t >= 0 else self.final for t in self.previous]


def check_ddim(case: Case, report: Report) -> None:
    """Timesteps exactly, alphas, single steps and whole loops."""
    config = {**case.get("config"), **case.data.get("effective_config", {})}
    table = schedule_alphas(config, case.name)
    alpha_tolerance = case.tolerance("alphas", 2e-6)
    step_tolerance = case.tolerance("step", 2e-4)
    loop_tolerance = case.tolerance("loop_result", 5e-4)
    report.close(case.name, "alphas", table, case.array("alphas_cumprod"), alpha_tolerance)
    noisy, noise = case.array("x_t"), case.array("eps")
    report.equal(case.name, "first noise", 1.0, case.optional("init_noise_sigma"))
    for steps, stored in case.get("schedules").items():
        where = f"{case.name}/steps{steps}"
        schedule = PublishedSchedule(config, int(steps), case.name)
        want = case.optional("final_alpha_cumprod")
        report.close(where, "last alpha", schedule.final, want, alpha_tolerance)
        report.equal(where, "timesteps", schedule.timesteps, lookup(stored, "timesteps", where))
        want = lookup(stored, "previous_timesteps", where)
        report.equal(where, "previous timesteps", schedule.previous, want)
        for key, value in (
            ("alpha_cumprod_t", schedule.alpha),
            ("alpha_cumprod_prev", schedule.alpha_next),
        ):
            report.close(where, key, value, lookup(stored, key, where), alpha_tolerance)
        pairs = list(zip(schedule.alpha, schedule.alpha_next, strict=True))
        singles = [ddim_step(noisy, noise, *pair) for pair in pairs]
        for index, key in enumerate(("prev_sample", "pred_original_sample")):
            stepped = np.stack([single[index] for single in singles])
            report.close(where, key, stepped, case.array(f"steps{steps}.{key}"), step_tolerance)
        sample = noisy
        for timestep, pair in zip(schedule.timesteps, pairs, strict=True):
            prediction = noise * np.float32(np.cos(timestep)) + np.float32(0.1) * sample
            sample = ddim_step(sample, prediction, *pair)[0]
        stored_loop = case.array(f"steps{steps}.loop_result")
        report.close(where, "loop_result", sample, stored_loop, loop_tolerance)
    at = case.array("one_step_x0.timesteps")
    alpha = table[at].reshape(-1, *[1] * (noisy.ndim - 1)).astype(np.float64)
    x0 = predict_x0(noisy, noise, alpha, "epsilon")
    report.close(case.name, "one_step_x0", x0, case.array("one_step_x0"), step_tolerance)


def check_mask(case: Case, report: Report) -> None:
    """The published outline, exactly, and what becomes of it at other sizes."""
    outline = latentsync_outline()
    picture = read_picture(case.folder, f"{case.name}.png")
    report.equal(case.name, "size", list(outline.shape), case.get("size"))
    report.close(case.name, "picture", np.stack([outline] * 3, axis=2), picture, 0.0)
    have = hashlib.sha256(outline.tobytes()).hexdigest()
    report.equal(case.name, "hash", have, case.get("sha256_of_one_channel_row_major"))
    zeros = outline == 0
    report.equal(case.name, "zero pixels", int(zeros.sum()), case.get("zero_pixels"))
    report.equal(case.name, "values", [int(v) for v in np.unique(outline)], case.get("values"))
    rows = np.flatnonzero(zeros.any(axis=1))
    stored_rows = case.get("rows_with_zeros")
    report.equal(case.name, "rows with zeros", [int(rows[0]), int(rows[-1])], stored_rows)
    drawn = np.zeros_like(zeros)
    for entry in case.get("rows"):
        first_row, last_row = lookup(entry, "rows", case.name)
        for first, last in lookup(entry, "zero_columns", case.name):
            drawn[first_row : last_row + 1, first : last + 1] = True
    report.close(case.name, "row extents", zeros, drawn, 0.0)
    for size, stored in case.get("resized").items():
        _check_resized(f"{case.name}/resized{size}", int(size), stored, report)


def _check_resized(where: str, size: int, stored: dict[str, Any], report: Report) -> None:
    mask = keep_mask(latentsync_face(size), size)
    latent = mask[::LATENT_STEP, ::LATENT_STEP]
    between = ((mask > 0) & (mask < 1)).mean()
    key = "fraction_strictly_between_0_and_1"
    report.close(where, "soft share", between, optional(stored, key), 1e-9)
    have = len(np.unique(mask))
    report.equal(where, "distinct values", have, optional(stored, "distinct_values"))
    report.close(where, "mean", mask.mean(dtype=np.float64), optional(stored, "mean"), 1e-6)
    want = optional(stored, f"latent_nearest_stride{LATENT_STEP}_mean")
    report.close(where, "latent mean", latent.mean(dtype=np.float64), want, 1e-6)
    want = stored.get("latent_distinct", [])  # a long list is stored in part
    if want:
        report.close(where, "latent values", np.unique(latent)[: len(want)], want, 1e-6)
