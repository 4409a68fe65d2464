from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.checkpoints import file_digest
from engine.models.tiny_codec import TinyCodec
from engine.models.unet import UNet3DConditionModel
from engine.models.whisper import WhisperEncoder
from engine.spec import CodecSpec, ModelSpec
from training.assemble import assemble, seal, write_half
from training.audio_encoder import BUNDLED_AUDIO
from training.codec import save
from training.hearing import bundled_unet_spec
from training.optimise import Average


def test_weights_are_stored_in_halves(tmp_path: Path) -> None:
    save_file({"a": torch.tensor([0.1, -2.0])}, tmp_path / "full")
    write_half(tmp_path / "full", tmp_path / "half")
    assert load_file(tmp_path / "half")["a"].dtype == torch.float16


def test_weights_that_do_not_fit_into_halves_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.tensor([7.0e4])}, tmp_path / "full")
    with pytest.raises(ValueError, match="a holds values"):
        write_half(tmp_path / "full", tmp_path / "half")


def test_an_assembled_folder_reads_back_and_names_its_files(tmp_path: Path) -> None:
    parts, out = tmp_path / "parts", tmp_path / "model"
    parts.mkdir()
    codec = TinyCodec(CodecSpec(kind="tiny", latent_channels=4, width=8, blocks=1))
    save(codec, parts / "drawn_codec.safetensors")
    unet = UNet3DConditionModel(bundled_unet_spec(4))
    save_file(Average(unet, 0.9).values, parts / "denoiser.safetensors")
    encoder = WhisperEncoder(BUNDLED_AUDIO)
    save_file(Average(encoder, 0.9).values, parts / "audio_encoder.safetensors")
    seal(out, assemble(parts, out))
    spec = ModelSpec.read(out)
    assert spec.carry == "causal"
    assert spec.digests["unet.safetensors"] == file_digest(out / "unet.safetensors")
    assert sum(path.stat().st_size for path in out.iterdir()) < 30e6
