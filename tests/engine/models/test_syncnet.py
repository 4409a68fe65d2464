"""The sync network's options; its numbers are held by the golden files."""

from __future__ import annotations

import torch

from engine.models.syncnet import BranchSpec, StableSyncNet


def test_embeddings_have_unit_length_and_follow_the_audio() -> None:
    torch.manual_seed(0)
    audio = BranchSpec(1, (32, 32, 64), ((2, 1), 2, (2, 3)), (False, True, False))
    visual = BranchSpec(6, (32, 64), ((1, 2), 2), (False, True))
    net = StableSyncNet(audio, visual).eval()
    with torch.no_grad():
        frames, mel = torch.randn(2, 6, 2, 4), torch.randn(2, 1, 8, 6)
        seen, heard = net(frames, mel)
        _, other = net(frames, mel.flip(0))
    assert torch.allclose(seen.norm(dim=1), torch.ones(2))
    assert torch.allclose(heard.norm(dim=1), torch.ones(2))
    assert torch.allclose(other, heard.flip(0), atol=1e-5)
    assert not torch.allclose(other, heard)
