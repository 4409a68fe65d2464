from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.backends.torch_backend import open_model
from engine.checkpoints import UNET_FILE, verify_digests
from engine.errors import ConfigError
from engine.models.build import build_unet
from engine.spec import ModelSpec
from tests.published_models import TINY_PUBLISHED
from tests.tiny_models import TINY_SPEC, randomize, write_random_model
from training.causal import (
    CHECKPOINT,
    LEARNT_FRAMES,
    RECOMPUTED,
    STREAM_FRAMES,
    Draw,
    causal_spec,
    convert,
    parameter_groups,
)
from training.causal_rollout import stream_forward
from training.model_crops import ClipSource, SpokenClips
from training.optimise import Recipe
from training.recompute import recompute_in_backward

RECIPE = Recipe(steps=3, batch=1, rate=1e-2, warmup=1)
TINY_BIDIRECTIONAL = dataclasses.replace(
    TINY_SPEC,
    carry="pinned",
    unet=dataclasses.replace(TINY_SPEC.unet, reference_gate=True, source_warp=True),
)


def noise_clips(spec: ModelSpec, asked: list[tuple[tuple[int, int], int]]) -> ClipSource:
    """Pictures and sound of noise; what is asked for is noted."""

    def draw(shape: tuple[int, int], seed: int) -> SpokenClips:
        asked.append((shape, seed))
        generator = torch.Generator().manual_seed(seed)
        size, audio = spec.resolution, spec.audio
        pictures = torch.rand(*shape, 3, size, size, generator=generator) * 2 - 1
        mel = torch.randn(*shape, audio.n_mels, audio.mel_frames, generator=generator)
        return SpokenClips(pictures, pictures.flip(3), mel)

    return draw


@pytest.mark.parametrize("spec", [TINY_BIDIRECTIONAL, TINY_PUBLISHED], ids=["bundled", "published"])
def test_a_bidirectional_model_becomes_a_causal_folder(spec: ModelSpec, tmp_path: Path) -> None:
    source, out = tmp_path / "bidirectional", tmp_path / "causal"
    write_random_model(source, spec)
    asked: list[tuple[tuple[int, int], int]] = []
    written = convert(source, out, noise_clips(spec, asked), RECIPE)
    assert (written.carry, written.unet) == ("causal", spec.unet)
    verify_digests(out, written)
    before, after = load_file(source / UNET_FILE), load_file(out / UNET_FILE)
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert any("motion_modules" in key for key in changed)
    draws = [Draw.of_step(RECIPE, step) for step in range(RECIPE.steps)]
    assert [shape[1] for shape, _ in asked[: RECIPE.steps]] == [draw.frames for draw in draws]
    open_model(out).new_session(hop_frames=4, seed=0)


def test_a_conversion_that_was_killed_goes_on_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "bidirectional"
    write_random_model(source, TINY_BIDIRECTIONAL)
    clips = noise_clips(TINY_BIDIRECTIONAL, [])
    convert(source, tmp_path / "whole", clips, RECIPE)
    monkeypatch.setattr("training.optimise.CHECKPOINT_EVERY_S", -1.0)  # after every step

    def dies_before_the_last(shape: tuple[int, int], seed: int) -> SpokenClips:
        if seed == RECIPE.steps - 1:
            raise KeyboardInterrupt
        return clips(shape, seed)

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "again", dies_before_the_last, RECIPE)
    convert(source, tmp_path / "again", clips, RECIPE)
    states = [
        torch.load(tmp_path / name / CHECKPOINT, weights_only=True) for name in ("whole", "again")
    ]
    assert states[0]["means"] == states[1]["means"]
    for key, value in states[0]["module"].items():
        assert torch.equal(value, states[1]["module"][key]), key


def test_recomputing_changes_no_gradient() -> None:
    sizes = (1, TINY_PUBLISHED.unet.in_channels, 20, 4, 4)
    sample, tokens = torch.randn(sizes), torch.randn(1, 20, 20, 16)

    def gradients(recomputed: int) -> list[Tensor]:
        unet = build_unet(TINY_PUBLISHED)
        randomize(unet, 4)
        assert bool(recomputed) == bool(recompute_in_backward(unet, RECOMPUTED[:recomputed]))
        out = stream_forward(unet, 4, 16, learn_from=12)(sample, torch.full((1,), 699.0), tokens)
        out.square().mean().backward()  # type: ignore[no-untyped-call]
        return [value.grad for value in unet.parameters() if value.grad is not None]

    for kept, again in zip(gradients(0), gradients(len(RECOMPUTED)), strict=True):
        torch.testing.assert_close(again, kept)


def test_only_temporal_modules_learn_where_nothing_else_may() -> None:
    unet = build_unet(TINY_PUBLISHED)
    (group,) = parameter_groups(unet, temporal_only=True)
    learning = {name for name, value in unet.named_parameters() if value.requires_grad}
    assert learning and all("motion_modules" in name for name in learning)
    assert len(list(group["params"])) == len(learning)  # type: ignore[call-overload]


def test_steps_draw_every_hop_and_both_ways_and_whole_hops() -> None:
    draws = {Draw.of_step(RECIPE, step) for step in range(200)}
    assert {draw.hop for draw in draws} == {1, 2, 4, 8}
    assert {draw.rings for draw in draws} == {True, False}
    for draw in draws:
        assert draw.frames % draw.hop == draw.learn_from % draw.hop == 0
        assert draw.learn_from == (STREAM_FRAMES - LEARNT_FRAMES if draw.rings else 0)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"carry": "causal"}, "is causal"),
        ({"guidance_scale": 1.5}, "without guidance"),
        ({"start": "warm"}, "starts from noise"),
    ],
)
def test_what_cannot_be_converted_is_refused(change: dict[str, object], why: str) -> None:
    spec = dataclasses.replace(TINY_BIDIRECTIONAL, **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=why):
        causal_spec(spec)
