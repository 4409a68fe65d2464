"""The published implementation's numbers, and that none of them can be changed unnoticed."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from benchmarks.conformance.__main__ import main, run_conformance
from benchmarks.conformance.checks import Report
from engine.face.align import SmoothingState, align_affine, latentsync_face
from engine.face.align import points_of_landmarks as points_of
from engine.face.restore import crop_aligned, paste_aligned
from engine.spec import FaceSpec

GOLDEN = Path(__file__).parent.parent / "golden" / "latentsync"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder of one's own to spoil."""
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


def edit_json(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def edit_tensor(path: Path, name: str, change: Callable[[torch.Tensor], None]) -> None:
    tensors = load_file(path)
    change(tensors[name])
    save_file(tensors, path)


def failures(report: Report) -> str:
    return "\n".join(check.line() for check in report.checks if not check.ok)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "case",
    [
        "weight_rule_check",
        "unet_stage2",  # the efficient network and both manifests too
        "whisper_features",
        "align_restore",
        "mask",
        "syncnet",
        "ddim",
    ],
)
def test_published_numbers_are_met(case: str) -> None:
    report = run_conformance(GOLDEN, only=case)
    assert report.ok, failures(report)


@pytest.mark.timeout(1200)
def test_published_pipeline_is_met() -> None:
    report = run_conformance(GOLDEN, only="pipeline_inner_loop")
    assert report.ok, failures(report)


def add(amount: float) -> Callable[[torch.Tensor], None]:
    def change(tensor: torch.Tensor) -> None:
        tensor.view(-1)[tensor.numel() // 2] += amount

    return change


@pytest.mark.parametrize(
    ("case", "tensor", "amount"),
    [
        ("ddim", "alphas_cumprod", 1e-4),
        ("ddim", "steps4.prev_sample", 1e-3),
        ("ddim", "steps8.loop_result", 1e-3),
        ("ddim", "one_step_x0", 1e-3),
        ("ddim", "eps", 1e-2),
        ("syncnet_small", "audio_embedding", 1e-4),
        ("syncnet_small", "visual_unnormalised", 1e-2),
        ("syncnet_small", "visual_base", 0.5),
        ("align_restore", "s320x240.affine", 1e-2),
        ("align_restore", "s640x360.affine_resolution512", 1e-2),
        ("align_restore", "s320x240.landmarks3", 1.0),
    ],
)
def test_altered_tensors_fail(copy: Path, case: str, tensor: str, amount: float) -> None:
    edit_tensor(copy / f"{case}.safetensors", tensor, add(amount))
    assert not run_conformance(copy, only=case).ok


def test_altered_probe_fails(copy: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        keep = data["subcases"]["small_variance"]
        keep["probes"]["up_blocks.2.attentions.0"]["std"] *= 1.001
        data["subcases"] = {"small_variance": keep}

    edit_json(copy / "unet_stage2.json", change)
    report = run_conformance(copy, only="unet_stage2")
    assert "probe up_blocks.2.attentions.0" in failures(report)
    assert "belongs to no known comparison" in failures(report)  # the other subcases' tensors


def test_altered_pictures_fail(copy: Path) -> None:
    for name in ("mask.png", "align_restore_s320x240_restored.png"):
        picture = cv2.imread(str(copy / name))
        assert picture is not None
        picture[200, 100] ^= 64
        cv2.imwrite(str(copy / name), picture)
    assert "picture" in failures(run_conformance(copy, only="mask"))
    assert "restored, levels" in failures(run_conformance(copy, only="align_restore"))


def test_altered_facts_fail(copy: Path) -> None:
    edit_json(copy / "mask.json", lambda data: data.update(zero_pixels=26674))
    edit_json(copy / "ddim.json", lambda data: data["schedules"]["4"]["timesteps"].reverse())
    edit_json(copy / "weight_rule_check.json", lambda data: data["examples"][1].update(seed=1))
    for case, words in (
        ("mask", "expected 26674, got 26673"),
        ("ddim", "timesteps"),
        ("weight_rule_check", "conv_norm_out.weight"),
    ):
        assert words in failures(run_conformance(copy, only=case))


def test_altered_manifest_fails(copy: Path) -> None:
    path = copy / "unet_stage2_efficient_manifest.json.gz"
    data = json.loads(gzip.decompress(path.read_bytes()))
    data["keys"]["conv_out.bias"] = [5]
    path.write_bytes(gzip.compress(json.dumps(data).encode()))
    report = run_conformance(copy, only="unet_stage2_efficient_manifest")
    assert "differs in conv_out.bias" in failures(report)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("ddim.json", "ddim"),
        ("ddim.safetensors", "ddim"),
        ("mask.png", "mask"),
        ("syncnet_16_pixel_attn_manifest.json.gz", "syncnet_16_pixel_attn_manifest"),
        ("align_restore_s640x360_image.png", "align_restore"),
    ],
)
def test_missing_and_malformed_files_are_named(copy: Path, name: str, case: str) -> None:
    (copy / name).write_bytes(b"not what it was")
    assert name in failures(run_conformance(copy, only=case))
    (copy / name).unlink()
    assert f"expected a file {name}" in failures(run_conformance(copy, only=case))


def test_a_tensor_that_is_no_number_fails(copy: Path) -> None:
    edit_tensor(copy / "ddim.safetensors", "steps1.prev_sample", add(float("nan")))
    assert "not a finite number" in failures(run_conformance(copy, only="ddim"))


def test_the_json_may_state_its_own_tolerance(copy: Path) -> None:
    edit_tensor(copy / "ddim.safetensors", "steps4.prev_sample", add(1e-3))
    edit_json(copy / "ddim.json", lambda data: data.update(tolerances={"step": 1e-2}))
    assert run_conformance(copy, only="ddim").ok


def test_other_sequences_and_sizes_are_read(copy: Path) -> None:
    """A folder made by our own code under other names: nothing in the tool knows the first's."""
    random = np.random.default_rng(5)
    stored = load_file(copy / "align_restore.safetensors")
    landmarks = stored["s320x240.landmarks106"].numpy()[:2] * 0.7
    image = random.integers(0, 256, (168, 224, 3), np.uint8)
    generated = random.normal(0, 0.6, (3, 128, 128)).astype(np.float16)
    points = np.stack([points_of(frame) for frame in landmarks])
    face, other = latentsync_face(128), latentsync_face(320)

    def running(spec: FaceSpec) -> np.ndarray[Any, Any]:
        state = SmoothingState()
        return np.stack([align_affine(frame, spec, state) for frame in points])

    affines = running(face)
    fresh = [align_affine(frame, face, SmoothingState()) for frame in points]
    arrays: dict[str, NDArray[Any]] = {
        "cat.landmarks106": landmarks,
        "cat.landmarks3": points,
        "cat.affine": affines,
        "cat.affine_fresh_state": np.stack(fresh),
        "cat.affine_no_smoothing": np.stack([align_affine(p, face) for p in points]),
        "cat.affine_resolution320": running(other),
        "cat.generated_face": generated,
        "face_template_128": np.asarray(face.template, np.float32),
    }
    pictures = {
        "image": image,
        "aligned": np.concatenate([crop_aligned(image, a, face, 128) for a in affines]),
        "restored": paste_aligned(image, generated.astype(np.float32), affines[1], face),
    }
    for kind, picture in pictures.items():
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(copy / f"align_restore_cat_{kind}.png"), bgr)
    save_file(
        {k: torch.from_numpy(v) for k, v in arrays.items()}, copy / "align_restore.safetensors"
    )
    listing = {k: {"shape": list(v.shape), "dtype": str(v.dtype)} for k, v in arrays.items()}
    sequence = {"image_width": 224, "image_height": 168, "frames": 2, "restored_frames": [1]}
    data = {"resolution": 128, "sequences": {"cat": sequence}, "tensors": listing}
    (copy / "align_restore.json").write_text(json.dumps(data))
    report = run_conformance(copy, only="align_restore")
    assert report.ok, failures(report)


def test_the_command_prints_and_exits(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(copy), "--only", "mask"]) == 0
    assert "ok     mask/resized128" in capsys.readouterr().out
    edit_json(copy / "mask.json", lambda data: data.update(zero_pixels=1))
    assert main([str(copy), "--only", "mask", "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["ok"] is False
    assert [check["quantity"] for check in printed["checks"] if not check["ok"]] == ["zero pixels"]
    assert main([str(copy / "nowhere")]) == 1
    assert "expected a folder" in capsys.readouterr().out
