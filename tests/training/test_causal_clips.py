from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.errors import MediaError
from engine.models.build import build_audio_encoder, build_codec
from tests.published_models import TINY_PUBLISHED
from tests.toy_finetune import write_toy_clips
from training.causal_clips import prepared_source
from training.model_crops import ClipEncoder


def test_prepared_videos_refer_to_elsewhere_and_show_no_mouth_that_is_to_be_drawn(
    tmp_path: Path,
) -> None:
    write_toy_clips(tmp_path, count=2, frames=20)
    draw = prepared_source(tmp_path, TINY_PUBLISHED, 6, tmp_path / "skipped.tsv")
    clips, again, longer = draw((2, 4), 3), draw((2, 4), 3), draw((1, 6), 4)
    assert clips.pictures.shape == (2, 4, 3, 32, 32) and longer.pictures.shape[1] == 6
    assert clips.references is not None and again.references is not None
    assert torch.equal(clips.pictures, again.pictures)
    assert torch.equal(clips.references, again.references)
    assert not torch.equal(clips.pictures, clips.references)
    audio = build_audio_encoder(TINY_PUBLISHED)
    latents = ClipEncoder(TINY_PUBLISHED, build_codec(TINY_PUBLISHED), audio)(clips)
    assert latents.tokens.shape == (2, 4, 20, 16)
    assert not torch.equal(latents.reference, latents.whole)


def test_videos_that_are_too_short_are_reported_and_left_out(tmp_path: Path) -> None:
    write_toy_clips(tmp_path, count=3, frames=20)
    skipped = tmp_path / "skipped.tsv"
    draw = prepared_source(tmp_path, TINY_PUBLISHED, 8, skipped)
    assert skipped.read_text().count("expected at least 24 frames, got 20") == 3
    with pytest.raises(MediaError, match="found none"):
        draw((1, 8), 0)
