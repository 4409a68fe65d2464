"""`lipwire doctor` finds what is there and says what to do about the rest."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from pathlib import Path

import pytest

from engine.backends import select
from engine.plans.cache import PlanCache
from engine.plans.folder import MANIFEST_FILE
from server.commands import doctor
from tests.tiny_models import make_tiny_model
from tests.toy_plans import ToyMaker, toy_key


def test_a_good_model_folder_is_ok(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    (check,) = doctor.check_model(str(tmp_path))
    assert check.verdict == "ok"
    assert "tiny-random" in check.found


def test_an_altered_model_file_is_bad_and_named(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    with (tmp_path / "codec.safetensors").open("ab") as file:
        file.write(b"x")
    (tmp_path / "unet.safetensors").unlink()
    (check,) = doctor.check_model(str(tmp_path))
    assert check.verdict == "bad"
    assert "codec.safetensors is altered" in check.found
    assert "unet.safetensors is missing" in check.found


def test_no_model_folder_is_bad_with_a_sentence(tmp_path: Path) -> None:
    (check,) = doctor.check_model(str(tmp_path / "nowhere"))
    assert check.verdict == "bad"
    assert check.remedy


def test_published_models_are_shown_with_how_to_bring_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPWIRE_MODELS_DIR", str(tmp_path))
    make_tiny_model(tmp_path / "latentsync-1.5")
    make_tiny_model(tmp_path / "latentsync-1.6")
    (tmp_path / "latentsync-1.6" / "codec.safetensors").unlink()
    there, broken = doctor.check_published()
    assert (there.verdict, broken.verdict) == ("ok", "note")
    assert str(tmp_path / "latentsync-1.5") in there.found
    assert "lacks codec.safetensors" in broken.found
    assert broken.remedy == "lipwire fetch latentsync-1.6"
    monkeypatch.setenv("LIPWIRE_MODELS_DIR", str(tmp_path / "empty"))
    assert {check.found for check in doctor.check_published()} == {f"not in {tmp_path / 'empty'}"}
    (check,) = doctor.check_model("latentsync-1.5")
    assert check.verdict == "bad" and check.remedy == "lipwire fetch latentsync-1.5"


def test_a_folder_without_graphs_says_how_to_export_them(tmp_path: Path) -> None:
    make_tiny_model(tmp_path)
    checks = {check.name: check for check in doctor.check_backends(str(tmp_path))}
    assert checks["backend openvino"].verdict == "note"
    assert "export.to_onnx" in checks["backend openvino"].remedy
    assert checks["backend auto"].found == "chooses torch-cpu"


def test_a_library_that_cannot_be_loaded_is_a_warning_and_the_next_best_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(select, "_version", lambda distribution: "1.0")
    found = doctor.check_backends()
    checks = {check.name: check for check in found}
    assert checks["backend openvino"].verdict == "warn"
    assert "import of openvino halted" in checks["backend openvino"].found
    assert checks["backend openvino"].remedy
    assert checks["backend auto"].found == "chooses onnxruntime"
    assert any(
        line.startswith("WARN  backend openvino")
        for line in doctor.format_checks(found).splitlines()
    )


def test_plans_are_counted_and_what_is_wrong_with_them_has_a_remedy(tmp_path: Path) -> None:
    cache = PlanCache(tmp_path / "plans")
    (empty,) = doctor.check_plans(cache)
    assert (empty.verdict, empty.found) == ("ok", f"0 in {cache.folder}, 0 MB")
    cache.open(toy_key(), ToyMaker()).close()
    (kept,) = doctor.check_plans(cache)
    assert kept.verdict == "ok" and kept.found.startswith("1 in ")
    os.truncate(cache.folder / toy_key().digest() / MANIFEST_FILE, 10)
    (damaged,) = doctor.check_plans(cache)
    assert "1 damaged" in damaged.found and damaged.remedy == "lipwire plans prune"


def test_a_plans_folder_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (check,) = doctor.check_plans(PlanCache(tmp_path / "file" / "plans"))
    assert check.verdict == "note" and "cannot be written" in check.found
    (off,) = doctor.check_plans(None)
    assert off.verdict == "note" and "plan_cache is off" in off.found


def test_a_taken_port_is_a_note_with_a_remedy() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.bind(("0.0.0.0", 0))
        holder.listen()
        checks = doctor.check_ports(holder.getsockname()[1])
    http = next(check for check in checks if check.name == "http port")
    assert http.verdict == "note"
    assert "another port" in http.remedy


def test_an_avatar_without_its_clip_is_bad(tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna" / "avatar.json").write_text("{}")
    (check,) = doctor.check_avatars(tmp_path)
    assert check.verdict == "bad"
    assert "anna" in check.found


def test_codecs_cascade_packages_and_network_are_there() -> None:
    for part in (doctor.check_codecs, doctor.check_cascade, doctor.check_packages):
        assert [check.verdict for check in part()] == ["ok"]
    assert doctor.check_network()[0].found


def test_json_can_be_read_by_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_tiny_model(tmp_path)
    parser = argparse.ArgumentParser()
    doctor.add_doctor_arguments(parser)
    status = doctor.run(parser.parse_args(["--json", "--model", str(tmp_path)]))
    report = json.loads(capsys.readouterr().out)
    assert report["can_serve"] is (status == 0)
    assert {"name", "verdict", "found", "remedy"} == set(report["checks"][0])


def test_text_shows_a_remedy_under_its_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.run_doctor(model="/nowhere") == 1
    text = capsys.readouterr().out
    assert "BAD   model /nowhere" in text
    assert "->" in text
    assert "can't serve" in text
