"""`lipwire bench quality` over faces of four rectangles and runners with planted faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.quality import command
from benchmarks.quality.drift import measure_drift
from benchmarks.quality.page import main as page_main
from benchmarks.quality.page import report_of
from benchmarks.quality.plan import Choice
from benchmarks.quality.runs import own_case
from benchmarks.quality.scores import Judge
from benchmarks.quality.torch_runs import TorchOpener
from benchmarks.report import Circumstances, render_html
from engine.errors import BackendError
from engine.spec import ModelSpec
from tests.tiny_models import TINY_SPEC, make_tiny_model
from tests.toy_expert import Levels
from tests.toy_takes import ToyOpener, ToyRunner, toy_takes

SMALL = Choice(("disjoint", "causal"), (4, 16), (1, 20), ("noise",), ("frame", "session"), (0,))
ABOUT = Circumstances("lipwire bench quality", "a machine", {}, "2026-01-01T00:00:00+00:00")


class Picky(ToyOpener):
    """Runs its own mode only, as the graph backends do."""

    def open(self, spec: ModelSpec) -> ToyRunner:
        if spec.carry != "causal":
            raise BackendError(f"expected causal, got {spec.carry}")
        return ToyRunner(self, spec)


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "make_takes", lambda spec: toy_takes(201))


def measured(opener: ToyOpener, choice: Choice = SMALL, **more: Any) -> dict[str, Any]:
    return command.measure(opener, choice, seconds=8.0, short_seconds=5.3, **more)


def row_of(result: dict[str, Any], way: str, hop: int, steps: int) -> dict[str, Any]:
    rows: list[dict[str, Any]] = result["rows"]
    return next(row for row in rows if (row["way"], row["hop"], row["steps"]) == (way, hop, steps))


def test_a_flawless_model_has_no_seam_and_follows_the_sound_and_the_floors_do_not() -> None:
    result = measured(ToyOpener())
    row = row_of(result, "causal", 4, 1)
    assert row["seam"]["paired"] and row["seam"]["excess"] == pytest.approx(1.0, abs=1e-6)
    assert row["sync"]["opening_correlation"] > 0.99 and row["sync"]["lag_frames"] == 0
    assert abs(row["hop_line_db"] - row["hop_line_truth_db"]) < 1.5
    assert row["change_ratio"] == pytest.approx(1.0, abs=0.05)
    floors = result["floors"]
    assert floors["model"]["sync"]["opening_correlation"] > 0.99
    assert floors["truth"]["sync"]["opening_correlation"] > 0.99
    assert abs(floors["wrong_sound"]["sync"]["opening_correlation"]) < 0.4
    assert abs(floors["source"]["sync"]["opening_correlation"]) < 0.2
    assert floors["source"]["mouth_psnr_db"] < row["mouth_psnr_db"] - 10
    json.dumps(result, allow_nan=False)


def test_a_planted_jump_between_hops_is_seen_as_seam_and_as_a_line() -> None:
    result = measured(ToyOpener(jump=30.0))
    for way, hop in (("causal", 4), ("disjoint", 16)):
        row = row_of(result, way, hop, 1)
        assert row["seam"]["excess"] > 1.3 and row["seam"]["low"] > 1.05
        assert row["hop_line_db"] > row["hop_line_truth_db"] + 3.0


def test_distances_to_many_steps_and_to_upstream_stand_beside_the_rows() -> None:
    result = measured(ToyOpener(), against_upstream=True)
    upstream = row_of(result, "upstream", 16, 20)
    assert upstream["guidance_scale"] == 1.5 and "to_upstream" not in upstream
    row = row_of(result, "causal", 4, 1)
    assert row["to_many_steps"]["latents"] == pytest.approx(0.0, abs=1e-6)
    assert row["to_many_steps"]["mouth_psnr_db"] > 99
    assert row["to_upstream"]["mouth_psnr_db"] > 99
    assert "to_many_steps" not in row_of(result, "disjoint", 4, 1)
    assert {row["beginning"]["frames"] for row in result["rows"]} == {2 * 128}
    assert upstream["seam"]["paired"] and upstream["seam"]["excess"] == pytest.approx(1.0)


def test_ways_that_a_backend_refuses_are_listed_with_the_reason() -> None:
    result = measured(Picky())
    assert {row["mode"] for row in result["rows"]} == {"causal"}
    refused = [item for item in result["refused"] if item["mode"] == "disjoint"]
    assert refused and "expected causal" in refused[0]["why"]
    assert "expected causal" in render_html(report_of(result, ABOUT))


def test_a_long_stream_that_stays_as_it_is_shows_no_drift() -> None:
    judge = Judge.of(TINY_SPEC, toy_takes(51))
    drift = measure_drift(
        ToyOpener(), own_case(TINY_SPEC), judge, 40.0, lambda: 100.0, minute_frames=250
    ).to_dict()
    assert drift["seconds"] == 40.0 and len(drift["sharpness"]) == 4
    assert drift["sharpness_drift"] == pytest.approx(0.0, abs=0.02)
    assert drift["last_change"] == 0.0 and drift["memory_growth"] == 0.0
    with pytest.raises(ValueError, match="at least 250"):
        measure_drift(ToyOpener(), own_case(TINY_SPEC), judge, 4.0, minute_frames=250)


def test_a_stream_that_darkens_and_grows_shows_it_by_minute() -> None:
    judge = Judge.of(TINY_SPEC, toy_takes(51))
    held = iter((100.0, 104.0, 108.0, 130.0))
    drift = measure_drift(
        ToyOpener(fade=0.02),
        own_case(TINY_SPEC),
        judge,
        40.0,
        lambda: next(held),
        minute_frames=250,
    ).to_dict()
    assert drift["look_error"] == sorted(drift["look_error"])
    assert drift["look_drift"] == pytest.approx(0.02 * 750, rel=0.35)
    assert drift["change"][0] is None or drift["change"][0] < drift["last_change"]
    assert drift["last_change"] > 5.0
    assert drift["memory_growth"] == pytest.approx(0.25)


def test_the_page_has_every_table_and_plot() -> None:
    result = measured(ToyOpener(), drift_seconds=60.0, against_upstream=True)
    page = render_html(report_of(result, ABOUT))
    for title in ("Seams", "Sync", "Steps", "Drift", "upstream", "whole takes: wrong sound"):
        assert title in page
    assert page.count("<svg") == 7
    assert "trained for 1 step at timesteps [999]" in page


def test_a_kept_result_is_drawn_again(tmp_path: Path) -> None:
    result = {"circumstances": ABOUT.to_dict(), **measured(ToyOpener())}
    kept = tmp_path / "quality.json"
    kept.write_text(json.dumps(result), encoding="utf-8")
    html, picture = tmp_path / "again.html", tmp_path / "plots.png"
    assert page_main([str(kept), "--html", str(html), "--picture", str(picture)]) == 0
    assert html.read_text() == render_html(report_of(result, ABOUT))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_torch_runs_every_mode(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    torch.set_num_threads(1)
    choice = Choice(
        ("disjoint", "pinned", "carry", "causal"), (4,), (1, 2), ("noise", "warm"),
        ("frame", "session"), (0, 2),
    )  # fmt: skip
    opener = TorchOpener(tmp_path / "model", "cpu")
    result = command.measure(opener, choice, seconds=1.0, short_seconds=1.0)
    assert not result["refused"]
    ways = {row["way"] for row in result["rows"]}
    assert ways == {
        "disjoint", "pinned", "carry", "carry, refresh 2", "causal", "causal, warm",
        "causal, session reference",
    }  # fmt: skip
    causal, carry = (row_of(result, way, 4, 1) for way in ("causal", "carry"))
    assert causal["seam"] == carry["seam"], "norms are per frame: the modes are one computation"
    assert causal["seam"] != row_of(result, "disjoint", 4, 1)["seam"]


def test_the_command_writes_json_and_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "FolderOpener", lambda folder, name: ToyOpener())
    monkeypatch.setattr("training.sync_network.load_expert", lambda folder: Levels())
    out = tmp_path / "out"
    arguments = "--backend openvino --modes causal --hops 4 --steps 1 --references frame"
    status = command.main([*arguments.split(), "--drift-seconds", "0", "--out", str(out)])
    assert status == 0
    result = json.loads((out / "quality.json").read_text())
    assert [row["way"] for row in result["rows"]] == ["causal"]
    assert {row["expert"]["windows"] for row in result["floors"].values()} == {2 * (200 - 7)}
    assert result["circumstances"]["command"].startswith("lipwire bench quality --backend openvino")
    assert (out / "quality.html").is_file()
    assert "quality.html" in capsys.readouterr().out
