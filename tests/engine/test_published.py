"""What the published models are said to be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engine.face.mask import mask_image
from engine.media import F32
from engine.published import LATENTSYNC_1_5, LATENTSYNC_1_6, PUBLISHED
from engine.sampler import alphas_cumprod
from engine.spec import ModelSpec


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_spec_survives_its_model_json(name: str) -> None:
    spec = PUBLISHED[name].spec
    assert spec.name == name
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_the_two_models_are_one_network_at_two_sizes() -> None:
    assert LATENTSYNC_1_5.unet == LATENTSYNC_1_6.unet
    assert (LATENTSYNC_1_5.latent_size, LATENTSYNC_1_6.latent_size) == (32, 64)
    assert (LATENTSYNC_1_6.face.crop_width, LATENTSYNC_1_6.face.crop_height) == (420, 560)
    for spec in (LATENTSYNC_1_5, LATENTSYNC_1_6):
        mask: F32 = mask_image(spec)
        assert mask.shape == (spec.resolution, spec.resolution)
        assert 0.40 < float(np.mean(mask < 0.5)) < 0.42


def test_sound_is_looked_at_forty_milliseconds_longer_than_its_steps_last() -> None:
    for spec in (LATENTSYNC_1_5, LATENTSYNC_1_6):
        assert (spec.audio.table_rows, spec.audio.tokens) == (1500, 50)
        assert spec.audio.lookahead_samples == 1320 + 640


def test_every_file_is_pinned_to_its_bytes() -> None:
    for published in PUBLISHED.values():
        for file in published.files:
            assert len(file.sha256) == 64 and int(file.sha256, 16) and file.size > 1_000_000
        names = [file.name for file in published.files]
        assert len(set(names)) == len(names) == 5
        # 1.267 G weights in float32, and what a zip adds.
        assert 0 < published.unet.size - 4 * 1_267_099_844 < 5_000_000


def test_the_steps_are_spaced_by_the_gain_of_the_predictions_error() -> None:
    alphas = alphas_cumprod()[list(LATENTSYNC_1_5.timesteps)]
    gains = [math.sqrt((1 - alpha) / alpha) for alpha in alphas]
    assert gains == pytest.approx([14.6, 3.3], abs=0.1)
