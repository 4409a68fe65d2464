"""The study of streamed audio features, on an untrained encoder."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.audio_features import measure
from benchmarks.audio_features_report import document_plots, features_report
from benchmarks.feature_study import Likeness, Study
from benchmarks.report import here, render_html
from benchmarks.whisper_weights import load_encoder, rule_encoder
from engine.errors import ModelError
from engine.media import F32
from engine.models.whisper import WhisperEncoder
from engine.spec import AudioSpec

SMALL = AudioSpec(width=128, layers=2, heads=2, positions=120)


def _sound(steps: int) -> F32:
    noise = np.random.default_rng(4).standard_normal(steps * 320)
    return np.asarray(0.2 * noise * np.sin(np.arange(steps * 320) / 2000) ** 2, np.float32)


def test_windows_on_the_recordings_rows_lose_context_only() -> None:
    study = Study(rule_encoder(SMALL), _sound(240))
    spec = replace(SMALL, positions=40, table_positions=120, log_floor=-10.0)
    ends = study.ends(3, 40)
    assert all(40 <= end % 120 <= 60 for end in ends)
    own, fixed = (study.streamed(spec, ends, rows) for rows in (None, 0))
    near, far = (study.likeness(spec, ends, states, 4) for states in (own, fixed))
    assert near.raw[0] == near.centred[0] == 1.0
    assert far.centred[0] < 0.99
    assert 0.0 < near.raw[2] < 1.0
    assert study.encoder.encoder.spec == SMALL


def test_a_window_of_a_whole_block_is_like_the_recording() -> None:
    study = Study(rule_encoder(SMALL), np.pad(_sound(110), (1600, 1600)))
    spec = replace(SMALL, floor="running", floor_fall=0.0, log_floor=-10.0)
    states = study.streamed(spec, [120], None)
    assert study.likeness(spec, [120], states, 0) == Likeness((1.0,) * 3, (1.0,) * 3)


def test_every_study_has_its_rows_and_the_page_shows_them() -> None:
    encoder = rule_encoder(AudioSpec(width=128, layers=1, heads=2, positions=1500))
    result = {"weights": "untrained", **measure(encoder, seconds=36, count=2)}
    assert {row["guard"] for row in result["context"]} == {0, 2, 4, 8}
    assert {row["lookahead_ms"] for row in result["context"]} == {82.5, 122.5, 162.5, 242.5}
    cost = {row["positions"]: row["gflop_a_frame"] for row in result["cost"]}
    assert cost[400] > 3.9 * cost[100]
    assert len(document_plots(result)) == 4
    page = render_html(features_report(result, here("command", ())))
    assert "20 dB quieter, after a bang" in page


def _ct2_text(text: str) -> bytes:
    return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"


def _ct2_file(path: Path, encoder: WhisperEncoder, dtype: int = 4) -> None:
    stack: Any = encoder.encoder
    arrays: dict[str, torch.Tensor] = {"position_encodings/encodings": stack.positional_embedding}
    for name in ("conv1", "conv2"):
        module = getattr(stack, name)
        arrays |= {f"{name}/weight": module.weight, f"{name}/bias": module.bias}
    norms = [("layer_norm", stack.ln_post)]
    for index, block in enumerate(stack.blocks):
        attention, mlp, layer = block.attn, block.mlp, f"layer_{index}"
        norms.append((f"{layer}/self_attention/layer_norm", block.attn_ln))
        norms.append((f"{layer}/ffn/layer_norm", block.mlp_ln))
        parts = (attention.query, attention.key, attention.value)
        biases = [torch.zeros_like(parts[0].bias) if p.bias is None else p.bias for p in parts]
        arrays[f"{layer}/self_attention/linear_0/weight"] = torch.cat([p.weight for p in parts])
        arrays[f"{layer}/self_attention/linear_0/bias"] = torch.cat(biases)
        for place, module in (
            ("self_attention/linear_1", attention.out),
            ("ffn/linear_0", mlp[0]),
            ("ffn/linear_1", mlp[2]),
        ):
            arrays |= {
                f"{layer}/{place}/weight": module.weight,
                f"{layer}/{place}/bias": module.bias,
            }
    for name, norm in norms:
        arrays |= {f"{name}/gamma": norm.weight, f"{name}/beta": norm.bias}
    data = struct.pack("<I", 6) + _ct2_text("WhisperSpec") + struct.pack("<II", 3, len(arrays) + 1)
    data += _ct2_text("encoder/num_heads") + struct.pack("<BBIh", 0, 2, 2, 2)
    for name, value in arrays.items():
        raw = value.detach().to(torch.float16).numpy().tobytes()
        data += _ct2_text(f"encoder/{name}") + struct.pack("<B", value.ndim)
        data += struct.pack(f"<{value.ndim}IBI", *value.shape, dtype, len(raw)) + raw
    path.write_bytes(data)


def test_weights_of_ctranslate2_are_read_under_whispers_keys(tmp_path: Path) -> None:
    encoder = rule_encoder(SMALL)
    _ct2_file(tmp_path / "model.bin", encoder)
    read = load_encoder(tmp_path / "model.bin")
    assert read.spec == SMALL
    for key, value in encoder.state_dict().items():
        assert torch.equal(read.state_dict()[key], value.half().float()), key


def test_quantised_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    _ct2_file(path, rule_encoder(SMALL), dtype=1)
    with pytest.raises(ModelError, match="expected floats"):
        load_encoder(path)
    path.write_bytes(b"GGML" * 20)
    with pytest.raises(ModelError, match="expected a"):
        load_encoder(path)
    with pytest.raises(ModelError, match="no such file"):
        load_encoder(tmp_path / "absent.bin")


def test_weights_under_whispers_keys_are_read_beside_a_decoders(tmp_path: Path) -> None:
    encoder = rule_encoder(SMALL)
    weights = dict(encoder.state_dict()) | {"decoder.ln.weight": torch.zeros(3)}
    torch.save({"dims": {}, "model_state_dict": weights}, tmp_path / "tiny.pt")
    read = load_encoder(tmp_path / "tiny.pt")
    assert torch.equal(read.encoder.conv1.weight, encoder.encoder.conv1.weight)
    torch.save({"decoder.ln.weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="expected a Whisper encoder"):
        load_encoder(tmp_path / "other.pt")
