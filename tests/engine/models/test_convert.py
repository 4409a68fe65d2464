"""Published checkpoints become safetensors of the architecture's own keys."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.checkpoints import file_digest, load_audio_encoder, load_codec, load_unet
from engine.errors import ModelError, StateDictMismatch
from engine.models.convert import FILES, Part, convert_weights, stored_bytes
from engine.models.whisper import sinusoids
from tests.published_models import (
    TINY_PUBLISHED,
    WHISPER_POSITIONS,
    codec_checkpoint,
    unet_checkpoint,
    whisper_checkpoint,
)

SPEC = TINY_PUBLISHED


@pytest.fixture
def sources(tmp_path: Path) -> dict[Part, Path]:
    paths: dict[Part, Path] = {
        "unet": tmp_path / "latentsync_unet.pt",
        "codec": tmp_path / "vae.safetensors",
        "audio_encoder": tmp_path / "tiny.pt",
    }
    torch.save(unet_checkpoint(SPEC), paths["unet"])
    save_file(codec_checkpoint(SPEC), paths["codec"])
    torch.save(whisper_checkpoint(SPEC), paths["audio_encoder"])
    return paths


def test_what_is_converted_loads_strictly_and_counts(
    sources: dict[Part, Path], tmp_path: Path
) -> None:
    written = 0

    def count(size: int) -> None:
        nonlocal written
        written += size

    for part, source in sources.items():
        digest = convert_weights(part, source, tmp_path, SPEC, "f16", count)
        assert digest == file_digest(tmp_path / FILES[part])
    assert written == stored_bytes(SPEC, "f16")
    load_unet(tmp_path, SPEC)
    load_codec(tmp_path, SPEC)
    load_audio_encoder(tmp_path, SPEC)


def test_weights_keep_their_values_in_the_stored_precision(
    sources: dict[Part, Path], tmp_path: Path
) -> None:
    state = unet_checkpoint(SPEC)["state_dict"]
    assert isinstance(state, dict)
    for precision, dtype in (("f16", torch.float16), ("f32", torch.float32)):
        convert_weights("unet", sources["unet"], tmp_path, SPEC, precision)  # type: ignore[arg-type]
        stored = load_file(tmp_path / FILES["unet"])
        for key, value in state.items():
            table = key.endswith("pos_encoder.pe")
            assert torch.equal(stored[key], value if table else value.to(dtype)), key


def test_the_codecs_old_attention_names_are_the_new_ones(
    sources: dict[Part, Path], tmp_path: Path
) -> None:
    old = codec_checkpoint(SPEC)
    convert_weights("codec", sources["codec"], tmp_path, SPEC, "f32")
    new = load_file(tmp_path / FILES["codec"])
    for half in ("encoder", "decoder"):
        at = f"{half}.mid_block.attentions.0"
        assert torch.equal(new[f"{at}.to_k.weight"], old[f"{at}.key.weight"])
        assert torch.equal(new[f"{at}.to_out.0.bias"], old[f"{at}.proj_attn.bias"])
    # A file that has the present names already is taken too.
    save_file(new, sources["codec"])
    assert convert_weights("codec", sources["codec"], tmp_path, SPEC, "f32") == file_digest(
        tmp_path / FILES["codec"]
    )


@pytest.mark.parametrize("rows", [0, WHISPER_POSITIONS])
def test_of_whisper_the_encoder_is_taken_with_the_rows_that_are_needed(
    rows: int, sources: dict[Part, Path], tmp_path: Path
) -> None:
    audio = dataclasses.replace(SPEC.audio, table_positions=rows)
    spec = dataclasses.replace(SPEC, audio=audio)
    convert_weights("audio_encoder", sources["audio_encoder"], tmp_path, spec)
    stored = load_file(tmp_path / FILES["audio_encoder"])
    assert not any(key.startswith("decoder.") for key in stored)
    table = stored["encoder.positional_embedding"]
    assert table.dtype == torch.float32 and len(table) == audio.table_rows
    assert torch.allclose(table, sinusoids(len(table), audio.width), atol=1e-3)  # halves
    load_audio_encoder(tmp_path, spec)


def test_a_table_that_is_too_short_is_misshapen(sources: dict[Part, Path], tmp_path: Path) -> None:
    audio = dataclasses.replace(SPEC.audio, table_positions=WHISPER_POSITIONS + 1)
    with pytest.raises(StateDictMismatch) as caught:
        convert_weights(
            "audio_encoder",
            sources["audio_encoder"],
            tmp_path,
            dataclasses.replace(SPEC, audio=audio),
        )
    assert list(caught.value.misshapen) == ["encoder.positional_embedding"]


def test_one_part_is_not_taken_for_another(sources: dict[Part, Path], tmp_path: Path) -> None:
    with pytest.raises(StateDictMismatch) as caught:
        convert_weights("unet", sources["codec"], tmp_path, SPEC)
    assert caught.value.missing and caught.value.unexpected
    assert not (tmp_path / FILES["unet"]).exists()


def test_a_weight_beyond_f16_is_named_and_fits_f32(
    sources: dict[Part, Path], tmp_path: Path
) -> None:
    checkpoint = unet_checkpoint(SPEC)
    state = checkpoint["state_dict"]
    assert isinstance(state, dict)
    state["conv_in.bias"] = torch.full_like(state["conv_in.bias"], 1e5)
    torch.save(checkpoint, sources["unet"])
    with pytest.raises(ModelError, match=r"finite weights in f16, not conv_in\.bias"):
        convert_weights("unet", sources["unet"], tmp_path, SPEC, "f16")
    convert_weights("unet", sources["unet"], tmp_path, SPEC, "f32")
