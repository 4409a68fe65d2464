"""`lipwire export`: what it says, writes and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.request import ExportRequest
from export.targets import TARGETS
from server.cli import main
from tests.tiny_models import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("exported") / "model"
    make_tiny_model(folder)
    return str(folder)


def test_a_network_is_written_where_asked_and_its_errors_are_printed(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    given = ["--component", "decoder", "--batch", "1,2", "--out", str(out)]
    assert main(["export", "--model", model, "--target", "onnx", *given]) == 0
    shown = capsys.readouterr().out
    assert str(out / "codec_decoder.onnx") in shown
    assert "image" in shown and "largest error" in shown and "tolerance 0.0001" in shown
    assert (out / "codec_decoder.export.json").is_file()


def test_steps_are_told_where_there_is_no_terminal(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--component", "encoder", "--out", str(tmp_path)]
    assert main(["export", "--model", model, "--target", "onnx", *given]) == 0
    steps = capsys.readouterr().err.splitlines()
    assert steps[:2] == ["codec_encoder: tracing", "codec_encoder: constants"]


def test_a_hop_with_rings_of_a_model_that_runs_whole_windows_is_noted(tmp_path: Path) -> None:
    make_tiny_model(tmp_path, carry="pinned")
    note = ExportRequest.of(tmp_path, "unet").served_otherwise
    assert "is served in pinned, which runs whole windows: --hop 16" in note
    assert ExportRequest.of(tmp_path, "unet", hop_frames=16).served_otherwise == ""
    assert ExportRequest.of(tmp_path, "audio").served_otherwise == ""


def test_json_is_the_record(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--component", "encoder", "--precision", "fp16", "--out", str(tmp_path), "--json"]
    assert main(["export", "--model", model, "--target", "onnx", *given]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["component"], record["precision"], record["passed"]) == ("encoder", "f16", True)
    assert record["versions"].keys() >= {"torch", "onnx"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--target", "coreml"], "expected a target of onnx, openvino"),
        (["--component", "vae"], "expected a component of unet, decoder, encoder, audio"),
        (["--precision", "int4"], "expected a precision of f32, f16, bf16, f8"),
        (["--precision", "f8", "--component", "decoder"], "onnx takes f8 of the unet only"),
        (["--precision", "f8", "--target", "openvino"], "which onnx, tensorrt and tensorrt-rtx"),
        (["--hop", "17"], "expected a hop of 1 to 16 frames"),
        (["--batch", "one"], "expected batches as numbers, 1,2,4 for example, got 'one'"),
        (["--target", "torch-tensorrt", "--component", "unet"], "takes decoder, encoder and audio"),
        (["--model", "nowhere"], "expected 'bundled'"),
    ],
)
def test_the_impossible_is_refused_in_a_sentence(
    model: str, given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--model", model, "--target", "onnx", *given]) == 1
    assert said in capsys.readouterr().err


def test_all_leaves_out_what_the_target_does_not_take(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from export.onnx_target import OnnxTarget

    def only_decoder(_target: OnnxTarget, component: str, _precision: str) -> str | None:
        return None if component == "decoder" else f"not {component}"

    monkeypatch.setattr(OnnxTarget, "refuses", only_decoder)
    assert main(["export", "--model", model, "--target", "onnx", "--out", str(tmp_path)]) == 0
    assert "unet is left out: not unet" in capsys.readouterr().err
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".onnx", ".safetensors"]


def test_a_missing_package_is_named_with_the_way_to_get_it(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TARGETS, "onnx", ("export.no_such_package", "TARGET"))
    assert main(["export", "--model", model, "--target", "onnx"]) == 1
    said = capsys.readouterr().err
    assert "no_such_package" in said and 'pip install -e ".[export]"' in said
