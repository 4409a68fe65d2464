"""The published sync network is kept when all its keys fit, and not otherwise.

huggingface_hub is the real one, the hub is `tests/hub_stand_in.py`; the network is small.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from engine.errors import FetchError, StateDictMismatch
from engine.models.syncnet import BranchSpec, StableSyncNet, load_syncnet
from engine.published import PUBLISHED_SYNCNETS, HubFile, PublishedSyncnet
from server.cli import main
from server.commands.fetch_syncnet import fetch_syncnet
from server.commands.hub import Progress
from server.commands.model_folder import Fetched, FetchOptions
from tests.hub_stand_in import COMMIT, StandIn
from tests.published_models import WEIGHTS, pt
from tests.tiny_models import randomize

pytest.importorskip("huggingface_hub")

NAME, FILE = "latentsync-1.5-syncnet", "stable_syncnet.pt"
AUDIO = BranchSpec(1, (32, 32), (2, 2), (False, True))
VISUAL = BranchSpec(6, (32, 32), ((1, 2), 2), (False, False))
PUBLISHED = PublishedSyncnet(NAME, "OpenRAIL++ (LatentSync)", HubFile(WEIGHTS, FILE, 0))


def checkpoint() -> dict[str, torch.Tensor]:
    net = StableSyncNet(AUDIO, VISUAL)
    randomize(net, 4)
    return dict(net.state_dict())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("engine.models.syncnet.PUBLISHED_AUDIO", AUDIO)
    monkeypatch.setattr("engine.models.syncnet.PUBLISHED_VISUAL", VISUAL)
    repos = {WEIGHTS: {FILE: pt({"global_step": 3, "state_dict": checkpoint()})}}
    with StandIn(repos) as stand_in:
        monkeypatch.setenv("HF_ENDPOINT", stand_in.endpoint)
        yield stand_in


def bring(parent: Path, options: FetchOptions | None = None) -> Fetched:
    return fetch_syncnet(PUBLISHED, parent, options or FetchOptions(), Progress(quiet=True))


def left_in(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir() if path.name != ".lock")


def test_the_file_is_kept_as_published_and_loads(hub: StandIn, tmp_path: Path) -> None:
    parent = tmp_path / "models"
    fetched = bring(parent)
    data = hub.repos[WEIGHTS][FILE]
    assert fetched.made and fetched.folder == parent / NAME and left_in(parent) == [NAME]
    assert fetched.downloaded_bytes == fetched.stored_bytes == len(data)
    assert (fetched.folder / FILE).read_bytes() == data
    assert json.loads((fetched.folder / "source.json").read_text())["files"][0]["commit"] == COMMIT
    loaded = load_syncnet(fetched.folder / FILE, AUDIO, VISUAL)
    for key, value in checkpoint().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_it_is_not_downloaded_twice_and_an_altered_one_is_replaced(
    hub: StandIn, tmp_path: Path
) -> None:
    path = bring(tmp_path).folder / FILE
    assert not bring(tmp_path).made
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert bring(tmp_path).made
    assert path.read_bytes() == hub.repos[WEIGHTS][FILE]


def test_a_file_whose_keys_do_not_fit_is_not_kept(hub: StandIn, tmp_path: Path) -> None:
    state = checkpoint()
    lost, bent = "visual_encoder.norm_out.bias", "audio_encoder.conv_in.weight"
    del state[lost]
    state[bent] = torch.zeros(32, 2, 3, 3)
    state["logit_scale"] = torch.ones(1)
    hub.repos[WEIGHTS][FILE] = pt({"state_dict": state})  # type: ignore[index]
    with pytest.raises(StateDictMismatch) as caught:
        bring(tmp_path)
    assert caught.value.missing == [lost] and caught.value.unexpected == ["logit_scale"]
    assert list(caught.value.misshapen) == [bent]
    assert not (tmp_path / NAME).exists()


def test_halves_are_not_made(hub: StandIn, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="kept as it is published"):
        bring(tmp_path, FetchOptions(precision="f16"))


def test_the_command_names_it(
    hub: StandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(PUBLISHED_SYNCNETS, NAME, PUBLISHED)
    assert main(["fetch", NAME, "--dir", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"{NAME}: made" in said and "OpenRAIL++" in said
