"""Model folders: found, verified, loaded strictly, without running anybody's code."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.checkpoints import (
    UNET_FILE,
    file_digest,
    load_audio_encoder,
    load_codec,
    load_unet,
    models_dir,
    resolve_model,
    verify_digests,
)
from engine.errors import ModelError, StateDictMismatch
from engine.models.build import build_unet, load_module
from engine.models.weight_files import WeightFile, write_safetensors
from engine.spec import ModelSpec
from tests.tiny_models import TINY_SPEC, write_random_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_random_model(tmp_path / "tiny", TINY_SPEC, dtype=torch.float16)
    return tmp_path / "tiny"


def test_a_folder_loads_in_float32(folder: Path) -> None:
    spec = ModelSpec.read(folder)
    modules = (load_unet(folder, spec), load_codec(folder, spec), load_audio_encoder(folder, spec))
    for module in modules:
        assert not module.training
        assert {p.dtype for p in module.parameters()} == {torch.float32}
        assert not any(p.is_meta or p.requires_grad for p in module.parameters())


def test_every_misfit_is_named(folder: Path) -> None:
    weights = load_file(folder / UNET_FILE)
    weights["extra.weight"] = torch.zeros(1)
    del weights["conv_out.bias"]
    weights["conv_in.bias"] = torch.zeros(3)
    save_file(weights, folder / UNET_FILE)
    with pytest.raises(StateDictMismatch) as caught:
        load_unet(folder, TINY_SPEC)
    error = caught.value
    assert error.missing == ["conv_out.bias"]
    assert error.unexpected == ["extra.weight"]
    assert error.misshapen["conv_in.bias"][1] == (3,)
    for part in (
        "missing     conv_out.bias",
        "unexpected  extra.weight",
        "misshapen   conv_in.bias",
    ):
        assert part in str(error)


def test_a_folder_loads_in_the_type_that_is_asked_for(folder: Path) -> None:
    spec = ModelSpec.read(folder)
    stored = load_file(folder / UNET_FILE)
    unet = load_unet(folder, spec, "cpu", torch.bfloat16)
    assert {p.dtype for p in unet.parameters()} == {torch.bfloat16}
    assert torch.equal(unet.conv_in.weight, stored["conv_in.weight"].bfloat16())


def test_loaded_weights_outlive_their_file(folder: Path) -> None:
    unet = load_unet(folder, ModelSpec.read(folder), "cpu", torch.float16)  # as stored
    before = unet.conv_in.weight.clone()
    size = (folder / UNET_FILE).stat().st_size
    (folder / UNET_FILE).write_bytes(b"\xff" * size)
    assert torch.equal(unet.conv_in.weight, before)


def test_a_long_list_of_misfits_is_cut_in_the_message_only(folder: Path) -> None:
    save_file({f"other.{i}": torch.zeros(1) for i in range(100)}, folder / UNET_FILE)
    with pytest.raises(StateDictMismatch) as caught:
        load_unet(folder, TINY_SPEC)
    message = str(caught.value)
    assert len(caught.value.unexpected) == 100
    assert "unexpected  ... 92 more of 100" in message
    assert message.count("\n") == 2 * 9


def test_a_streamed_file_is_a_safetensors_file(tmp_path: Path) -> None:
    tensors = {"a": torch.rand(3, 5), "b": torch.rand(7).half(), "c": torch.rand(()).bfloat16()}
    layout = {key: (tuple(value.shape), value.dtype) for key, value in tensors.items()}
    path = tmp_path / "w.safetensors"
    assert write_safetensors(path, layout, iter(tensors.items())) == file_digest(path)
    loaded = load_file(path)
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[key], value) for key, value in tensors.items())
    with pytest.raises(ValueError, match="expected a"):
        write_safetensors(path, layout, [("b", tensors["b"])])


def test_absent_and_broken_files_are_named(folder: Path) -> None:
    (folder / UNET_FILE).write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="expected safetensors"):
        load_unet(folder, TINY_SPEC)
    (folder / UNET_FILE).unlink()
    with pytest.raises(ModelError, match="found no such file"):
        load_unet(folder, TINY_SPEC)


def test_pt_files_load_nested_or_plain(tmp_path: Path) -> None:
    unet = build_unet(TINY_SPEC)
    for name, content in (
        ("plain.pt", unet.state_dict()),
        ("nested.pt", {"global_step": 3, "state_dict": unet.state_dict()}),
    ):
        torch.save(content, tmp_path / name)
        loaded = load_module(lambda: build_unet(TINY_SPEC), tmp_path / name)
        assert torch.equal(loaded.conv_in.weight, unet.conv_in.weight)


def test_pt_files_run_no_code(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"weight": Payload()}, protocol=2))
    with pytest.raises(ModelError, match="expected plain tensors"):
        WeightFile(tmp_path / "evil.pt")
    torch.save({"weight": Payload()}, tmp_path / "zipped.pt")
    with pytest.raises(ModelError, match="expected plain tensors"):
        WeightFile(tmp_path / "zipped.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="expected a dict of tensors, got list"):
        WeightFile(tmp_path / "list.pt")
    assert not (tmp_path / "ran").exists()


def test_digests_are_compared(folder: Path) -> None:
    digest = file_digest(folder / UNET_FILE)
    verify_digests(folder, dataclasses.replace(TINY_SPEC, digests={UNET_FILE: digest}))
    for digests, words in (
        ({UNET_FILE: "0" * 64}, "expected SHA-256 0000"),
        ({"gone.onnx": digest}, "expected gone.onnx"),
    ):
        with pytest.raises(ModelError, match=words):
            verify_digests(folder, dataclasses.replace(TINY_SPEC, digests=digests))


def test_folders_resolve_by_path(folder: Path) -> None:
    assert resolve_model(folder) == folder
    assert resolve_model(str(folder)) == folder
    with pytest.raises(ModelError, match=r"expected 'bundled', one of .* or a folder with"):
        resolve_model(folder / "elsewhere")


def test_fetched_models_resolve_by_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPWIRE_MODELS_DIR", str(tmp_path / "models"))
    with pytest.raises(ModelError, match=r"to bring it: lipwire fetch latentsync-1\.6"):
        resolve_model("latentsync-1.6")
    (tmp_path / "models").mkdir()
    fetched = folder.rename(tmp_path / "models" / "latentsync-1.6")
    assert resolve_model("latentsync-1.6") == fetched
    assert resolve_model("bundled").name == "model"


def test_models_lie_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIPWIRE_MODELS_DIR", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert models_dir() == Path("/data/lipwire/models")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert models_dir() == Path("/home/ada/.local/share/lipwire/models")


def test_the_core_of_the_engine_imports_no_torch() -> None:
    modules = (
        "engine.checkpoints, engine.sampler, engine.face.align, engine.face.mask, "
        "engine.face.restore, engine.audio.log_mel, engine.audio.chunks"
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
