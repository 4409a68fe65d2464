"""Published models come whole, verified and converted, or not at all.

huggingface_hub is the real one; the hub it talks to runs on this machine and serves
random weights in the published layout (`tests/hub_stand_in.py`, `tests/published_models.py`).
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine.backends.base import HopInput
from engine.backends.select import open_backend
from engine.checkpoints import UNET_FILE, altered_files, file_digest, load_unet, resolve_model
from engine.errors import FetchError, ModelError, StateDictMismatch
from engine.face.align import latentsync_face
from engine.face.mask import mask_image
from engine.published import PUBLISHED, PublishedModel
from engine.spec import ModelSpec
from server.cli import main
from server.commands.fetch import fetch
from server.commands.hub import Progress
from server.commands.model_folder import Fetched, FetchOptions
from tests.hub_stand_in import COMMIT, StandIn
from tests.published_models import (
    CODEC,
    FACES,
    TINY_PUBLISHED,
    WEIGHTS,
    make_published,
    pt,
    published_as,
    unet_checkpoint,
)

huggingface_hub = pytest.importorskip("huggingface_hub")

ROOT = Path(__file__).resolve().parents[3]
QUIET = Progress(quiet=True)
UNET = "latentsync_unet.pt"
Repos = dict[str, dict[str, bytes]]


@pytest.fixture(scope="module")
def source() -> tuple[PublishedModel, Repos]:
    return make_published()


@pytest.fixture
def hub(
    source: tuple[PublishedModel, Repos], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StandIn]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(
        "huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000
    )  # it keeps whole ones
    # The client pauses for a second before it goes on after a cut.
    no_pause = types.SimpleNamespace(sleep=lambda _seconds: None)
    monkeypatch.setattr("huggingface_hub.file_download.time", no_pause)
    with StandIn({repo: dict(paths) for repo, paths in source[1].items()}) as stand_in:
        monkeypatch.setenv("HF_ENDPOINT", stand_in.endpoint)
        yield stand_in


@pytest.fixture
def published(source: tuple[PublishedModel, Repos]) -> PublishedModel:
    return source[0]


def bring(published: PublishedModel, parent: Path, options: FetchOptions | None = None) -> Fetched:
    return fetch(published, parent, options or FetchOptions(), QUIET)


def leftovers(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir() if path.name != ".lock")


def test_a_model_is_made_whole_and_recorded(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    parent = tmp_path / "models"
    fetched = bring(published, parent)
    assert fetched.made and fetched.folder == parent / "latentsync-1.5"
    assert fetched.downloaded_bytes == sum(file.size for file in published.files)
    assert leftovers(parent) == ["latentsync-1.5"]
    spec = ModelSpec.read(fetched.folder)
    assert len(spec.digests) == 5 and altered_files(fetched.folder, spec) == []
    assert dataclasses.replace(spec, digests={}, licence="") == dataclasses.replace(
        TINY_PUBLISHED, licence=""
    )
    assert "non-commercial" in spec.licence
    assert (fetched.folder / "det_10g.onnx").read_bytes() == b"detector"
    recorded = json.loads((fetched.folder / "source.json").read_text())
    assert {item["commit"] for item in recorded["files"]} == {COMMIT}


def test_a_second_run_finds_it_there_without_asking_the_hub(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    first = bring(published, tmp_path)
    hub.status = 500
    again = bring(published, tmp_path)
    assert not again.made and again.files == first.files
    assert again.stored_bytes == first.stored_bytes


def test_an_altered_model_is_made_anew(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    folder = bring(published, tmp_path).folder
    before = file_digest(folder / UNET_FILE)
    (folder / UNET_FILE).write_bytes(b"short")
    assert bring(published, tmp_path).made
    assert file_digest(folder / UNET_FILE) == before


def test_another_precision_or_force_makes_it_anew(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    small = bring(published, tmp_path)
    large = bring(published, tmp_path, FetchOptions(precision="f32"))
    assert (small.precision, large.precision) == ("f16", "f32")
    assert large.stored_bytes > 1.8 * small.stored_bytes
    assert not bring(published, tmp_path).made  # as it is stored already
    assert bring(published, tmp_path, FetchOptions(force=True)).made


def test_a_cut_connection_is_taken_up_where_it_broke(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    hub.cut_after[UNET] = [20_000]
    fetched = bring(published, tmp_path)
    assert hub.sent(UNET) == ["", "bytes=20000-"]
    assert fetched.downloaded_bytes == sum(file.size for file in published.files)


def test_an_interrupted_download_goes_on_in_the_next_run(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    hub.cut_after[UNET] = [20_000, *[0] * 5]  # then nothing, until the client gives up
    with pytest.raises(FetchError, match=r"20000 bytes are kept.*HF_ENDPOINT to a mirror"):
        bring(published, tmp_path)
    assert leftovers(tmp_path) == [".downloads"]
    hub.requests.clear()
    fetched = bring(published, tmp_path)
    assert hub.sent(UNET) == ["bytes=20000-"]
    assert fetched.downloaded_bytes == sum(file.size for file in published.files) - 20_000


def test_other_bytes_than_promised_are_refused_and_not_kept(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    good = hub.repos[WEIGHTS][UNET]
    hub.promised[UNET] = published.unet.sha256
    hub.repos[WEIGHTS][UNET] = good[:-1] + b"!"  # type: ignore[index]
    with pytest.raises(FetchError, match=f"expected SHA-256 {published.unet.sha256}, got"):
        bring(published, tmp_path)
    assert not (tmp_path / "latentsync-1.5").exists()
    hub.repos[WEIGHTS][UNET] = good  # type: ignore[index]
    assert bring(published, tmp_path).made


def test_a_file_that_does_not_end_is_cut_off_at_its_promised_size(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    hub.padding[UNET] = bytes(1_000_000)
    with pytest.raises(FetchError, match="bytes as promised, more came"):
        bring(published, tmp_path)
    kept = sum(path.stat().st_size for path in (tmp_path / ".downloads").iterdir())
    assert kept <= published.unet.size
    hub.padding.clear()
    assert bring(published, tmp_path).made


@pytest.mark.parametrize("elsewhere", ["http://198.51.100.7", "ftp://198.51.100.7"])
def test_a_redirect_out_of_https_is_not_followed(
    hub: StandIn, published: PublishedModel, tmp_path: Path, elsewhere: str
) -> None:
    hub.content = elsewhere
    with pytest.raises(FetchError, match=r"https://|protocol"):
        bring(published, tmp_path)
    assert hub.requests == []


def test_a_hub_is_asked_over_https_unless_it_is_on_this_machine(
    hub: StandIn, published: PublishedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.example.org")
    with pytest.raises(FetchError, match="HF_ENDPOINT to begin with https"):
        bring(published, tmp_path)


def test_a_file_that_the_hub_has_replaced_is_taken_only_when_asked_to(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    newer = pt({**unet_checkpoint(TINY_PUBLISHED), "global_step": 8})
    hub.repos[WEIGHTS][UNET] = newer  # type: ignore[index]
    with pytest.raises(FetchError, match="is not the file that this version of lipwire knows"):
        bring(published, tmp_path)
    assert hub.requests == []  # said before anything is downloaded
    assert bring(published, tmp_path, FetchOptions(allow_changed=True)).made


def test_without_a_digest_of_our_own_the_hubs_promise_holds(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    unknown = dataclasses.replace(
        published, unet=dataclasses.replace(published.unet, sha256="", size=0)
    )
    hub.promised[UNET] = "0" * 64
    with pytest.raises(FetchError, match="expected SHA-256 0000"):
        bring(unknown, tmp_path)
    hub.promised.clear()
    assert bring(unknown, tmp_path).made


def test_what_is_not_there_is_named(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    del hub.repos[FACES]["buffalo_l/2d106det.onnx"]  # type: ignore[attr-defined]
    with pytest.raises(FetchError, match=r"no buffalo_l/2d106det.onnx of faces/models .*HTTP 404"):
        bring(published, tmp_path)
    assert bring(published, tmp_path, FetchOptions(faces=False)).files == 3
    del hub.repos[CODEC]  # type: ignore[attr-defined]
    with pytest.raises(FetchError, match="stabilityai/sd-vae-ft-mse"):
        bring(published, tmp_path, FetchOptions(force=True))


@pytest.mark.parametrize(
    ("status", "words"), [(503, "answered HTTP 503"), (403, "needs a token in HF_TOKEN")]
)
def test_a_hub_that_refuses_is_quoted(
    hub: StandIn, published: PublishedModel, tmp_path: Path, status: int, words: str
) -> None:
    hub.status = status
    with pytest.raises(FetchError, match=words):
        bring(published, tmp_path)


def test_something_else_than_a_hub_is_told_apart(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    hub.plain = True
    with pytest.raises(FetchError, match="does not answer as a Hugging Face hub does"):
        bring(published, tmp_path)


def test_offline_the_hubs_cache_is_enough_and_without_it_the_file_is_named(
    hub: StandIn, published: PublishedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = tmp_path / "models"
    for file in published.files[:-1]:  # as `hf download` does
        huggingface_hub.hf_hub_download(file.repo, file.path, endpoint=hub.endpoint)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.status = 500
    with pytest.raises(FetchError, match=r"HF_HUB_OFFLINE is set, and buffalo_l/2d106det.onnx"):
        bring(published, parent)
    fetched = bring(published, parent, FetchOptions(faces=False))
    assert fetched.made and fetched.downloaded_bytes == 0


def test_a_spoilt_file_in_the_hubs_cache_is_downloaded_again(
    hub: StandIn, published: PublishedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in published.files:
        path = huggingface_hub.hf_hub_download(file.repo, file.path, endpoint=hub.endpoint)
        if file is published.unet:
            Path(path).write_bytes(bytes(file.size))
    hub.requests.clear()
    with monkeypatch.context() as offline:
        offline.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        with pytest.raises(FetchError, match="expected SHA-256"):
            bring(published, tmp_path / "models")
    assert bring(published, tmp_path / "models").made
    assert [path for method, path, _ in hub.requests if method == "GET"] == [UNET]


def test_a_wrong_file_fails_with_its_keys_and_leaves_nothing(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    checkpoint = unet_checkpoint(TINY_PUBLISHED)
    state = checkpoint["state_dict"]
    assert isinstance(state, dict)
    state["extra.weight"] = state.pop("conv_out.bias")
    hub.repos[WEIGHTS][UNET] = pt(checkpoint)  # type: ignore[index]
    wrong = published_as(TINY_PUBLISHED, hub.repos)
    with pytest.raises(StateDictMismatch) as caught:
        bring(wrong, tmp_path)
    assert caught.value.missing == ["conv_out.bias"]
    assert caught.value.unexpected == ["extra.weight"]
    assert leftovers(tmp_path) == [".downloads"]  # whole files, for the next run


def test_a_failed_run_leaves_the_old_model_in_place(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    folder = bring(published, tmp_path).folder
    hub.repos[WEIGHTS][UNET] = pt({"state_dict": {}})  # type: ignore[index]
    with pytest.raises(ModelError):
        bring(published_as(TINY_PUBLISHED, hub.repos), tmp_path, FetchOptions(force=True))
    assert altered_files(folder, ModelSpec.read(folder)) == []
    load_unet(folder, ModelSpec.read(folder))


def test_a_disk_that_is_too_small_is_told_before_anything_is_downloaded(
    hub: StandIn, published: PublishedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: types.SimpleNamespace(free=1_000_000))
    with pytest.raises(FetchError, match=r"expected 0.07 GB free .* found 0.00 GB; make room"):
        bring(published, tmp_path)
    assert hub.requests == []


def test_a_disk_that_fills_up_is_told_and_nothing_half_made_is_left(
    hub: StandIn, published: PublishedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.models.convert.write_safetensors", full)
    with pytest.raises(FetchError, match=r"the disk of .* is full"):
        bring(published, tmp_path)
    assert leftovers(tmp_path) == [".downloads"]


def test_what_a_killed_run_left_is_swept_away(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    (tmp_path / ".latentsync-1.5.making").mkdir()
    (tmp_path / ".latentsync-1.5.making" / UNET_FILE).write_bytes(b"half")
    folder = bring(published, tmp_path).folder
    assert leftovers(tmp_path) == ["latentsync-1.5"]
    assert altered_files(folder, ModelSpec.read(folder)) == []


def test_another_models_half_download_is_left_alone(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    other = tmp_path / ".downloads" / "0123456789abcdef-latentsync_unet.pt.part"
    other.parent.mkdir()
    other.write_bytes(b"half")
    bring(published, tmp_path)
    assert [path.name for path in other.parent.iterdir()] == [other.name]


def test_two_fetches_do_not_meet(hub: StandIn, published: PublishedModel, tmp_path: Path) -> None:
    import filelock

    with (
        filelock.FileLock(tmp_path / ".lock"),
        pytest.raises(FetchError, match="another lipwire fetch is at work in"),
    ):
        bring(published, tmp_path)


def test_downloads_can_be_kept_and_serve_again(
    hub: StandIn, published: PublishedModel, tmp_path: Path
) -> None:
    bring(published, tmp_path, FetchOptions(keep_downloads=True))
    again = bring(published, tmp_path, FetchOptions(force=True, keep_downloads=True))
    assert again.made and again.downloaded_bytes == 0


def test_what_has_to_be_installed_is_said(
    hub: StandIn, published: PublishedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.commands.model_folder.NEEDED", ("no_such_module",))
    with pytest.raises(FetchError, match=r'no_such_module.*pip install -e "\.\[latentsync\]"'):
        bring(published, tmp_path)


def test_a_fetched_model_runs_by_its_name(
    hub: StandIn, published: PublishedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPWIRE_MODELS_DIR", str(tmp_path))
    bring(published, tmp_path)
    backend = open_backend(resolve_model("latentsync-1.5"), "torch")
    spec = backend.spec
    crops = np.full((2, spec.resolution, spec.resolution, 3), 90, np.uint8)
    hop = HopInput(
        state=backend.new_session(hop_frames=2, seed=0),
        mel=np.zeros((2, spec.audio.n_mels, spec.audio.mel_frames), np.float32),
        masked_latents=backend.encode(crops, masked=True),
        ref_latents=backend.encode(crops, masked=False),
    )
    frames = backend.run_hop([hop])[0].crops
    assert frames.shape == crops.shape and frames.std() > 1.0


def test_the_command_reports_to_people_and_to_programs(
    hub: StandIn,
    published: PublishedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LIPWIRE_MODELS_DIR", str(tmp_path))
    monkeypatch.setitem(PUBLISHED, "latentsync-1.5", published)
    assert main(["fetch", "latentsync-1.5", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["made"] is True and captured.err == ""
    assert main(["fetch", "latentsync-1.5"]) == 0
    text = capsys.readouterr().out
    assert "already in" in text and "5 files" in text
    assert "lipwire serve --model latentsync-1.5" in text


def test_a_mask_of_its_own_is_asked_for_and_put_into_a_model_that_is_there(
    hub: StandIn,
    published: PublishedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = dataclasses.replace(TINY_PUBLISHED, face=latentsync_face(32))
    masked = dataclasses.replace(published, spec=spec, other_mask="utils/mask2.png")
    monkeypatch.setitem(PUBLISHED, "latentsync-1.6", masked)
    models, picture = tmp_path / "models", tmp_path / "mask2.png"
    command = ["fetch", "latentsync-1.6", "--dir", str(models)]
    assert main(command) == 0
    assert "trained with utils/mask2.png" in capsys.readouterr().out
    half = np.full((64, 64), 255, np.uint8)
    half[40:] = 0
    cv2.imwrite(str(picture), half)
    hub.status = 500  # nothing is downloaded again
    assert main([*command, "--mask", str(picture)]) == 0
    assert "utils/mask2.png" not in capsys.readouterr().out
    read = ModelSpec.read(models / spec.name)
    assert mask_image(read)[:18].min() > 0.95 and mask_image(read)[22:].max() < 0.05
    assert altered_files(models / spec.name, read) == []
    assert main(command) == 0  # and without --mask it stays
    assert ModelSpec.read(models / spec.name) == read


def test_a_mask_that_cannot_be_read_is_told_before_anything_is_downloaded(
    hub: StandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["fetch", "latentsync-1.6", "--dir", str(tmp_path), "--mask"]
    assert main([*command, str(tmp_path / "absent.png")]) == 1
    assert "--mask: cannot read" in capsys.readouterr().err
    (tmp_path / "text.png").write_text("no picture")
    assert main([*command, str(tmp_path / "text.png")]) == 1
    assert "expected a PNG picture" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "cannot get latentsync_unet.pt"),
        ({"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set, and latentsync_unet.pt"),
    ],
)
def test_without_a_network_the_command_ends_with_one_line(
    environment: dict[str, str], words: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "server", "fetch", "latentsync-1.5", "--dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "HF_HOME": str(tmp_path / "hf"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert words in done.stderr and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1
