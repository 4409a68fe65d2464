"""The sync network's options, and its files; its numbers are held by the golden files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.errors import ConfigError, ModelError, StateDictMismatch
from engine.models.syncnet import (
    PUBLISHED_AUDIO,
    PUBLISHED_VISUAL,
    BranchSpec,
    StableSyncNet,
    load_syncnet,
)
from tests.tiny_models import randomize

AUDIO = BranchSpec(1, (32, 32, 64), ((2, 1), 2, (2, 3)), (False, True, False))
VISUAL = BranchSpec(6, (32, 64), ((1, 2), 2), (False, True))


@pytest.fixture
def net() -> StableSyncNet:
    torch.manual_seed(0)
    made = StableSyncNet(AUDIO, VISUAL).eval()
    randomize(made, 1)
    return made


def write(net: StableSyncNet, path: Path, change: Callable[[dict[str, Tensor]], None]) -> Path:
    """The file as LatentSync's trainer writes it, with a planted fault."""
    state = dict(net.state_dict())
    change(state)
    torch.save({"global_step": 7, "state_dict": state}, path)
    return path


@torch.no_grad()
def test_embeddings_have_unit_length_and_follow_the_audio(net: StableSyncNet) -> None:
    frames, mel = torch.randn(2, 6, 2, 4), torch.randn(2, 1, 8, 6)
    seen, heard = net(frames, mel)
    _, other = net(frames, mel.flip(0))
    assert torch.allclose(seen.norm(dim=1), torch.ones(2))
    assert torch.allclose(heard.norm(dim=1), torch.ones(2))
    assert torch.allclose(other, heard.flip(0), atol=1e-5)
    assert not torch.allclose(other, heard)


@torch.no_grad()
def test_a_trainers_file_is_loaded_key_by_key(net: StableSyncNet, tmp_path: Path) -> None:
    path = write(net, tmp_path / "stable_syncnet.pt", lambda state: None)
    loaded = load_syncnet(path, AUDIO, VISUAL)
    frames, mel = torch.randn(2, 6, 2, 4), torch.randn(2, 1, 8, 6)
    for have, want in zip(loaded(frames, mel), net(frames, mel), strict=True):
        assert torch.equal(have, want)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_missing_unexpected_and_misshapen_keys_are_refused_by_name(
    net: StableSyncNet, tmp_path: Path
) -> None:
    lost, extra = "audio_encoder.norm_out.bias", "visual_encoder.logit_scale"
    bent = "visual_encoder.conv_in.weight"

    def plant(state: dict[str, Tensor]) -> None:
        del state[lost]
        state[extra] = torch.ones(())
        state[bent] = state[bent][:, :3].clone()

    path = write(net, tmp_path / "stable_syncnet.pt", plant)
    with pytest.raises(StateDictMismatch) as caught:
        load_syncnet(path, AUDIO, VISUAL)
    assert caught.value.missing == [lost]
    assert caught.value.unexpected == [extra]
    assert caught.value.misshapen == {bent: ((32, 6, 3, 3), (32, 3, 3, 3))}
    assert all(name in str(caught.value) for name in (lost, extra, bent, str(path)))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stable_syncnet.pt"
    torch.save({"state_dict": {"audio_encoder.conv_in.weight": print}}, path)
    with pytest.raises(ModelError, match="expected plain tensors"):
        load_syncnet(path, AUDIO, VISUAL)


def test_the_small_networks_file_is_no_published_one(net: StableSyncNet, tmp_path: Path) -> None:
    path = write(net, tmp_path / "stable_syncnet.pt", lambda state: None)
    with pytest.raises(StateDictMismatch) as caught:
        load_syncnet(path)
    with torch.device("meta"):
        published = StableSyncNet(PUBLISHED_AUDIO, PUBLISHED_VISUAL)
    named = {*caught.value.missing, *caught.value.misshapen}
    assert named <= published.state_dict().keys()
    assert sum(p.numel() for p in published.parameters()) == 401_306_080


@pytest.mark.parametrize(
    ("channels", "factors", "said"),
    [((32, 40), (2, 2), "multiples of 32"), ((32, 64), (2,), "each of 2 blocks")],
)
def test_a_branch_that_cannot_be_built_is_refused(
    channels: tuple[int, ...], factors: tuple[int, ...], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        BranchSpec(1, channels, factors, (False,) * len(channels))
