"""Prepared clips: what is good comes through as it was, what is bad is named and skipped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from engine.errors import MediaError
from engine.media import FRAME_SAMPLES
from server.media.media_files import Mp4Writer
from tests.fakes import grey_picture
from tests.toy_finetune import FRAMES, TOY_MODEL, write_toy_clips
from tests.toy_takes import draw
from training.finetune.batches import ClipSource, log_mel_windows
from training.finetune.clips import LISTING, SkipReport, read_clip, read_listing
from training.prepare.clip_file import write_clip


@pytest.fixture
def report(tmp_path: Path) -> SkipReport:
    return SkipReport(tmp_path / "skipped.tsv")


def _source(folder: Path, report: SkipReport, seed: int = 3) -> ClipSource:
    entries = read_listing(folder, 3 * FRAMES, report)
    train = [entry for entry in entries if entry.split == "train"]
    return ClipSource(train, TOY_MODEL, FRAMES, seed, report)


def test_a_prepared_clip_comes_back_with_its_very_sound(tmp_path: Path) -> None:
    pictures = draw(np.linspace(0, 1, 25).astype(np.float32), 32)
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 25 * FRAME_SAMPLES).astype(np.float32)
    write_clip(tmp_path / "a.mp4", pictures, samples)
    clip = read_clip(tmp_path / "a.mp4", 32)
    assert clip.pictures.shape == pictures.shape
    assert float(np.abs(clip.pictures.astype(float) - pictures).mean()) < 6
    assert clip.samples.shape == samples.shape
    np.testing.assert_allclose(clip.samples, samples, atol=1e-4)


def test_sound_in_a_codec_with_a_delay_is_in_time(tmp_path: Path) -> None:
    sound = np.zeros((1, 48_000), np.float32)
    sound[0, 24_000:25_200] = 0.5 * np.sin(np.arange(1200) / 12)  # half a second in
    with Mp4Writer(tmp_path / "a.mp4", width=32, height=32, channels=1) as writer:
        for _ in range(25):
            writer.add_picture(grey_picture(90, 32, 32))
        writer.add_sound(sound)
    clip = read_clip(tmp_path / "a.mp4", 32)
    loud = np.flatnonzero(np.abs(clip.samples) > 0.15)
    assert 7950 < loud[0] < 8100 and 8300 < loud[-1] < 8500


def test_bad_lines_are_reported_once_with_their_reason(tmp_path: Path, report: SkipReport) -> None:
    write_toy_clips(tmp_path, 2)
    bad = [
        "{broken",
        "[]",
        json.dumps({"file": "clips/x.mp4", "frames": 3, "split": "train"}),
        json.dumps({"file": "clips/y.mp4", "frames": 99, "split": "other"}),
        json.dumps({"file": "clips/z.mp4", "frames": 99, "split": "train", "offset_frames": 2}),
    ]
    with (tmp_path / LISTING).open("a", encoding="utf-8") as file:
        file.write("\n".join(bad))
    for _ in range(2):
        entries = read_listing(tmp_path, 12, report)
    assert [entry.split for entry in entries] == ["train", "validation"]
    lines = (tmp_path / "skipped.tsv").read_text().splitlines()
    assert [line.partition("\t")[0] for line in lines] == [f"{LISTING}:{n}" for n in range(3, 8)]
    assert "at least 12 frames, got 3" in lines[2] and "offset of 2" in lines[4]


def test_files_that_cannot_be_read_are_skipped_and_named(
    tmp_path: Path, report: SkipReport
) -> None:
    write_toy_clips(tmp_path, 4)
    (tmp_path / "clips/000000.mp4").write_bytes(b"no video")
    write_clip(
        tmp_path / "clips/000001.mp4", draw(np.zeros(20, np.float32), 64), np.zeros(12_800, "f4")
    )
    source = _source(tmp_path, report)
    for number in range(4):
        source.batch(number, 2)
    text = (tmp_path / "skipped.tsv").read_text()
    assert "000000.mp4\t" in text and "000001.mp4\t" in text and "got 64 x 64" in text
    assert "000002" not in text


def test_without_a_clip_that_can_be_read_training_says_so(
    tmp_path: Path, report: SkipReport
) -> None:
    write_toy_clips(tmp_path, 2)
    (tmp_path / "clips/000000.mp4").write_bytes(b"")
    with pytest.raises(MediaError, match="bad ones in a row"):
        _source(tmp_path, report).batch(0, 1)
    with pytest.raises(MediaError, match="found none"):
        read_listing(tmp_path / "clips", 12, report)


def test_a_batch_is_a_function_of_its_number(tmp_path: Path, report: SkipReport) -> None:
    write_toy_clips(tmp_path)
    first, again = (_source(tmp_path, report).batch(7, 2) for _ in range(2))
    other = _source(tmp_path, report).batch(8, 2)
    assert np.array_equal(first.truth, again.truth) and np.array_equal(first.mel, again.mel)
    assert not np.array_equal(first.reference, other.reference)


def test_truth_reference_and_sound_are_cut_from_one_clip(
    tmp_path: Path, report: SkipReport
) -> None:
    write_toy_clips(tmp_path, 2)
    clip = read_clip(tmp_path / "clips/000000.mp4", 32)
    batch = _source(tmp_path, report).batch(0, 1)

    def place(frames: np.ndarray) -> int:
        starts = range(len(clip.pictures) - FRAMES + 1)
        (found,) = (s for s in starts if np.array_equal(clip.pictures[s : s + FRAMES], frames))
        return found

    start, reference = place(batch.truth[0]), place(batch.reference[0])
    assert abs(start - reference) >= FRAMES
    want = log_mel_windows(clip.samples, range(start, start + FRAMES), TOY_MODEL.audio)
    assert np.array_equal(batch.mel[0], want)
    assert batch.sync_mel.shape == (1, 1, 80, 13)
