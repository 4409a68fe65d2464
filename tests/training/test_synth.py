"""The whole corpus from one command: the same bytes, kill or no kill, and a picture of it."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from training import synth
from training.contact_sheet import draw_sheet, mouth_plot, spectrogram
from training.faces.corpus import SpeechShelf, write_shard
from training.mouth import CLOSURE, rest_mouth
from training.speech.corpus import Settings
from training.speech.engines import ENGINES
from training.synth import MOST_CLIPS, LeftOut, shards_of, write_everything

SILENT = Settings(minutes=1.0, seed=5, without=ENGINES)
CLIPS = 3  # in shards of two: one whole, one short


@pytest.fixture(autouse=True)
def small_shards_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def one_thread(processes: int) -> Executor:
        return ThreadPoolExecutor(1)

    monkeypatch.setattr(synth, "SHARD_CLIPS", 2)
    monkeypatch.setattr(synth, "workers", one_thread)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synth, "SHARD_CLIPS", 2)
        patch.setattr(synth, "workers", lambda processes: ThreadPoolExecutor(1))
        assert write_everything(out, SILENT, CLIPS, 1, None) == []
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_killed_run_ends_with_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(corpus, cut)
    (cut / "faces" / "crops_01.json").unlink()
    (cut / "faces" / "crops_01.npy").write_bytes(b"half")
    (cut / "faces" / "shard_01.partial").mkdir()
    (cut / "faces" / "shard_01.partial" / "mouth_01.npy").write_bytes(b"half")
    assert write_everything(cut, SILENT, CLIPS, 1, None) == []
    assert content(cut) == content(corpus)


def test_a_damaged_shard_is_made_anew(corpus: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(corpus, damaged)
    path = damaged / "faces" / "source_01.npy"
    np.save(path, np.load(path)[:-1])
    assert write_everything(damaged, SILENT, CLIPS, 1, None) == []
    assert content(damaged) == content(corpus)


def test_a_shard_that_cannot_be_made_is_left_out_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_at_one(folder: Path, index: int, clips: int, seed: int, shelf: SpeechShelf) -> int:
        if index == 1:
            raise ValueError("no chin")
        return write_shard(folder, index, 1, seed, shelf)

    monkeypatch.setattr(synth, "write_shard", fails_at_one)
    told = write_everything(tmp_path, SILENT, CLIPS, 1, None)
    assert told == [LeftOut("faces/crops_01", "ValueError: no chin")]
    listed = json.loads((tmp_path / "left_out.json").read_text(encoding="utf-8"))
    assert listed == [{"file": "faces/crops_01", "reason": "ValueError: no chin"}]
    assert [path.name for path in tmp_path.glob("faces/crops_*.json")] == ["crops_00.json"]


def test_shards_hold_all_clips_and_leave_room_for_the_avatars() -> None:
    assert [shard.clips for shard in shards_of(5)] == [2, 2, 1]
    with pytest.raises(ValueError, match=f"at most {MOST_CLIPS}"):
        shards_of(MOST_CLIPS + 1)


def test_the_contact_sheet_shows_faces_and_what_they_say(corpus: Path, tmp_path: Path) -> None:
    draw_sheet(corpus, tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape[1] == 13 * 128
    assert sheet[:128, :128].std() > 10
    with pytest.raises(ValueError, match="expected faces"):
        draw_sheet(tmp_path, tmp_path / "none.png")


def test_shut_lips_and_sound_show_where_they_are() -> None:
    mouth = rest_mouth(10)
    mouth[5, CLOSURE] = 1.0
    plot = mouth_plot(mouth)
    assert plot[5, 170].max() < 150 < plot[5, 40].min()
    samples = np.zeros(6400, np.float32)
    samples[3200:] = np.sin(np.arange(3200) * 0.4)
    picture = spectrogram(samples)
    assert picture[:, 200:].max() > 200
    assert picture[:, :140].max() < 60
    assert spectrogram(np.zeros(6400, np.float32)).max() == 0
