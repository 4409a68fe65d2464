from __future__ import annotations

from pathlib import Path

from training.avatar_clips import AVATAR_IDENTITY, write_avatar_shard
from training.dataset import CropStore
from training.faces.avatars import cast
from training.faces.corpus import SpeechShelf


def test_an_avatar_speaks_in_a_shard_like_any_other(tmp_path: Path) -> None:
    faces = tmp_path / "faces"
    faces.mkdir()
    write_avatar_shard(faces, 90, cast()[0], 2, SpeechShelf(None))
    store = CropStore.open(faces)
    clips = store.clips("train")
    assert [clip.identity for clip in clips] == [AVATAR_IDENTITY + 90] * 2
    for clip in clips:
        assert store.crops(clip).shape == store.source(clip).shape == (clip.frames, 128, 128, 3)
    assert not store.clips("test")
