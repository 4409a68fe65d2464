from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from engine.checkpoints import AUDIO_ENCODER_FILE, UNET_FILE, verify_digests
from engine.errors import ConfigError
from engine.spec import ModelSpec
from tests.tiny_models import make_tiny_model
from training.derived_model import write_derived_model


def test_a_derived_folder_has_the_new_part_and_all_others(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    spec = make_tiny_model(source)
    (source / "unet.onnx").write_bytes(b"a graph of the old weights")
    weights = {key: value + 1 for key, value in load_file(source / UNET_FILE).items()}
    for _ in range(2):  # publishing again replaces what was there
        written = write_derived_model(source, out, spec, {UNET_FILE: weights})
    assert ModelSpec.read(out) == written
    verify_digests(out, written)
    assert written.digests[AUDIO_ENCODER_FILE] == spec.digests[AUDIO_ENCODER_FILE]
    assert written.digests[UNET_FILE] != spec.digests[UNET_FILE]
    assert not (out / "unet.onnx").exists()
    stored = load_file(out / UNET_FILE)
    assert all(torch.equal(stored[key], value) for key, value in weights.items())
    verify_digests(source, spec)


def test_a_folder_is_not_written_over_its_own_source(tmp_path: Path) -> None:
    spec = make_tiny_model(tmp_path)
    with pytest.raises(ConfigError, match="another folder"):
        write_derived_model(tmp_path, tmp_path, spec, {})
