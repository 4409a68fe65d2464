"""The audio encoder's shapes, keys and states; its numbers are held by the golden files."""

from __future__ import annotations

from dataclasses import replace

import torch

from engine.models.whisper import WhisperEncoder, offline_states
from engine.spec import AudioSpec

SPEC = AudioSpec(n_mels=8, width=12, layers=2, heads=3, positions=12)


def test_tokens_are_the_last_ten_positions_of_every_state() -> None:
    torch.manual_seed(0)
    encoder = WhisperEncoder(SPEC).eval()
    mel = torch.randn(3, 8, 24)
    with torch.no_grad():
        states, tokens = encoder.states(mel), encoder(mel)
    assert states.shape == (3, 12, 3, 12)
    assert tokens.shape == (3, SPEC.tokens, SPEC.width)
    for step in range(10):
        for state in range(3):
            assert torch.equal(tokens[:, 3 * step + state], states[:, 2 + step, state])


def test_states_come_from_before_the_final_norm() -> None:
    torch.manual_seed(0)
    encoder = WhisperEncoder(SPEC).eval()
    mel = torch.randn(1, 8, 24)
    with torch.no_grad():
        before = encoder.states(mel)
        encoder.encoder.ln_post.weight.zero_()
        assert torch.equal(encoder.states(mel), before)


def test_keys_are_whisper_s() -> None:
    keys = set(WhisperEncoder(SPEC).state_dict())
    assert all(key.startswith("encoder.") for key in keys)
    assert "encoder.positional_embedding" in keys
    assert "encoder.blocks.1.attn.query.bias" in keys
    assert "encoder.blocks.1.attn.key.bias" not in keys


def test_recordings_are_cut_into_segments() -> None:
    torch.manual_seed(0)
    encoder = WhisperEncoder(SPEC).eval()
    mel = torch.randn(8, 24 + 9)
    with torch.no_grad():
        states = offline_states(encoder, mel)
        first = encoder.states(mel[None, :, :24])[0]
    assert states.shape == (12 + 4, 3, 12)
    assert torch.equal(states[:12], first)


def test_tokens_lie_before_guard_and_tail() -> None:
    torch.manual_seed(0)
    spec = replace(SPEC, positions=18, guard=3, tail=2)
    encoder = WhisperEncoder(spec).eval()
    mel = torch.randn(2, 8, 36)
    with torch.no_grad():
        assert torch.equal(encoder(mel), encoder.states(mel)[:, 3:13].flatten(1, 2))


def test_a_window_reads_its_rows_of_a_longer_table() -> None:
    torch.manual_seed(0)
    spec = replace(SPEC, table_positions=40, first_row=7)
    encoder, short = WhisperEncoder(spec).eval(), WhisperEncoder(SPEC).eval()
    weights = dict(encoder.state_dict())
    assert weights["encoder.positional_embedding"].shape == (40, 12)
    weights["encoder.positional_embedding"] = weights["encoder.positional_embedding"][7:19]
    short.load_state_dict(weights)
    mel = torch.randn(2, 8, 24)
    with torch.no_grad():
        assert torch.equal(encoder(mel), short(mel))
        assert not torch.allclose(encoder(mel), WhisperEncoder(SPEC)(mel))


def test_a_recording_is_cut_into_segments_as_long_as_the_table() -> None:
    torch.manual_seed(0)
    encoder = WhisperEncoder(replace(SPEC, table_positions=20, first_row=3)).eval()
    mel = torch.randn(8, 40 + 6)
    with torch.no_grad():
        states = offline_states(encoder, mel)
        first = encoder.encoder(mel[None, :, :40])[0]
    assert states.shape == (20 + 3, 3, 12)
    assert torch.equal(states[:20], first)
