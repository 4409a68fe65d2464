"""What is left out adds up, and decides nothing that it should not."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from engine.errors import ConfigError
from training.prepare.listing import HyperIqa, make_listing, print_summary
from training.prepare.records import ClipRecord, Prepared
from training.prepare.report import Finding, stage_totals, worst_reasons

CLIP = ClipRecord("clips/a-0000.mp4", 100, 0, 3.5, 77.0, "a/v.mp4", 1.0, -2)
OTHER = ClipRecord("clips/b-0000.mp4", 50, 0, 4.0, 60.0, "b.mp4", 0.0, 0)
FOUND = (
    Finding("a/v.mp4", "faces", "face turned away", 0.0, 1.0),
    Finding("a/v.mp4", "sync", "sound moved: by -2 frames", 1.0, 4.0, kept=True),
    Finding("a/v.mp4", "faces", "mouth covered", 5.0, 3.0),
)
PREPARED = (
    Prepared("a/v.mp4", 1234, 8.0, (CLIP,), FOUND),
    Prepared("b.mp4", 999, 2.0, (OTHER,), ()),
)


def test_a_record_comes_back_as_it_was_written() -> None:
    assert Prepared.from_json(PREPARED[0].to_json()) == PREPARED[0]


def test_stages_are_added_up_without_what_was_kept() -> None:
    (faces,) = stage_totals(FOUND)
    assert (faces.stage, faces.seconds, faces.parts) == ("faces", 4.0, 2)
    assert worst_reasons(faces, 1) == "mouth covered (3.0 s), 1 more"


def test_reasons_that_differ_behind_the_colon_are_one() -> None:
    found = [Finding("v", "quality", f"poor pictures: quality {n}", 0.0, 1.0) for n in (3, 9)]
    assert stage_totals(found)[0].reasons == (("poor pictures", 2.0),)


def test_the_listing_has_a_line_a_clip_with_its_split(tmp_path: Path) -> None:
    listing = make_listing(PREPARED, {"a/v.mp4": "train", "b.mp4": "validation"}, None)
    listing.write(tmp_path)
    lines = (tmp_path / "clips.jsonl").read_text(encoding="utf-8").splitlines()
    first = json.loads(lines[0])
    assert first["file"] == CLIP.file and first["split"] == "train"
    assert {"frames", "offset_frames", "sync_confidence", "quality", "source", "start_s"} <= set(
        first
    )
    assert json.loads(lines[1])["split"] == "validation"
    report = (tmp_path / "report.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["reason"] for line in report] == [found.reason for found in FOUND]


def test_scores_of_hyperiqa_replace_the_measured_quality_and_leave_clips_out(
    tmp_path: Path,
) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text(
        '{"file": "clips/a-0000.mp4", "score": 39.9}\n{"file": "clips/b-0000.mp4", "score": 55}\n'
    )
    splits = {"a/v.mp4": "train", "b.mp4": "train"}
    listing = make_listing(PREPARED, splits, HyperIqa.read(path))  # type: ignore[arg-type]
    assert [(clip.file, clip.quality) for clip, _ in listing.clips] == [(OTHER.file, 55.0)]
    assert listing.findings[-1] == Finding(
        "a/v.mp4", "quality", "poor pictures: HyperIQA 40", 1.0, 4.0
    )


def test_a_file_that_holds_no_scores_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.jsonl"
    path.write_text('{"file": "a"}\n')
    with pytest.raises(ConfigError, match="expected lines"):
        HyperIqa.read(path)


def test_the_summary_says_what_came_in_and_out_and_why_the_rest_did_not() -> None:
    text = StringIO()
    listing = make_listing(PREPARED, {"a/v.mp4": "train", "b.mp4": "validation"}, None)
    print_summary(listing, {"faces": 1.25}, Console(file=text, width=120))
    said = text.getvalue()
    assert "in   10.0 s of video in 2 files" in said
    assert "out  6.0 s in 2 clips (4.0 s train, 2.0 s validation)" in said
    assert "mouth covered (3.0 s), face turned away (1.0 s)" in said
    assert "work faces 1.2 s" in said
