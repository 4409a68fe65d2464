"""Avatar folders load, loop and prepare, and say what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from engine.avatar import AvatarSource, load_avatar, loop_index, prepare_avatar
from engine.errors import AvatarError
from engine.face.align import align_affine
from engine.face.paste_back import crop_face
from tests.fakes import FAKE_SPEC, FakeBackend, fake_avatar

FRAMES, WIDTH, HEIGHT = 6, 96, 80


def _write(folder: Path, *, rate: int = 25, **changes: Any) -> Path:
    folder.mkdir()
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"crf": "1"}
        for index in range(FRAMES):
            grey = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
            grey[:HEIGHT] = 60 + 20 * index
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="yuv420p")))
        container.mux(stream.encode(None))
    points = [[[34 + i, 22], [58 + i, 22], [46 + i, 34]] for i in range(FRAMES)]
    data = {
        "name": "box",
        "title": "A box",
        "frames": FRAMES,
        "width": WIDTH,
        "height": HEIGHT,
        "loop": "pingpong",
        "points": points,
        "reference_frame": 2,
        "licence": "CC0-1.0",
    }
    data.update(changes)
    kept = {key: value for key, value in data.items() if value is not None}
    (folder / "avatar.json").write_text(json.dumps(kept), encoding="utf-8")
    return folder


def test_a_folder_loads_with_all_of_its_frames(tmp_path: Path) -> None:
    avatar = load_avatar(_write(tmp_path / "box"))
    assert (avatar.name, avatar.title, avatar.loop) == ("box", "A box", "pingpong")
    assert [round(int(p.luma.mean()), -1) for p in avatar.pictures] == [60, 80, 100, 120, 140, 160]
    assert avatar.points.shape == (FRAMES, 3, 2)


def test_loops_wrap_or_run_back_with_both_ends_twice() -> None:
    assert [loop_index(i, 3, "wrap") for i in range(7)] == [0, 1, 2, 0, 1, 2, 0]
    assert [loop_index(i, 3, "pingpong") for i in range(8)] == [0, 1, 2, 2, 1, 0, 0, 1]
    assert [loop_index(i, 1, "pingpong") for i in range(3)] == [0, 0, 0]


def test_preparing_crops_every_frame_at_its_own_points(tmp_path: Path) -> None:
    avatar = load_avatar(_write(tmp_path / "box"))
    backend = FakeBackend()
    prepared = prepare_avatar(avatar, backend)
    assert prepared.affines.shape == (FRAMES, 2, 3)
    assert prepared.masked_latents.shape == (FRAMES, 4, 4, 4)
    assert prepared.ref_latents.shape == (FRAMES, 4, 4, 4)
    assert backend.encoded == [FRAMES, FRAMES]
    # The fake codec keeps a crop's mean, halved where it is masked.
    for index in (0, 5):
        affine = align_affine(avatar.points[index], FAKE_SPEC.face)
        mean = crop_face(avatar.pictures[index], affine, 32).mean()
        assert abs(prepared.masked_latents[index].mean() - mean / 2) < 1.0
        assert abs(prepared.ref_latents[index].mean() - mean) < 1.0


def test_the_source_loops_the_prepared_frames(tmp_path: Path) -> None:
    prepared = prepare_avatar(load_avatar(_write(tmp_path / "box")), FakeBackend())
    source = AvatarSource(prepared)
    frames = source.take(range(4, 8))
    order = [4, 5, 5, 4]
    for frame, index in zip(frames, order, strict=True):
        assert frame.picture is prepared.avatar.pictures[index]
        assert frame.affine is not None
        assert np.array_equal(frame.affine, prepared.affines[index])
        assert not frame.cut
    assert source.start_frame() == 0
    assert source.ready(range(10**6, 10**6 + 1))


def test_a_stream_that_begins_later_finds_the_loop_where_it_stands() -> None:
    whole, later = AvatarSource(fake_avatar(7)), AvatarSource(fake_avatar(7), first_frame=24)
    expected = [frame.picture.i420[0, 0] for frame in whole.take(range(24, 44))]
    assert [frame.picture.i420[0, 0] for frame in later.take(range(20))] == expected


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"frames": 7}, "promises 7 frames, clip.mp4 has 6"),
        ({"width": 94}, "expected pictures of 94 x 80, got 96 x 80"),
        ({"loop": "bounce"}, "expected a loop of"),
        ({"loop": None}, "expected a text 'loop'"),
        ({"points": None}, "points"),
        ({"points": [[[0, 0]]]}, "expected three finite points for each of 6 frames"),
        ({"points": [[[1, 1]] * 3] * 6}, "coincide"),
        ({"reference_frame": 6}, "expected a reference_frame below 6"),
        ({"rate": 30}, "expected 25 frames a second, got 30"),
    ],
)
def test_a_wrong_folder_is_refused_with_a_sentence(
    tmp_path: Path, changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AvatarError, match=sentence):
        load_avatar(_write(tmp_path / "box", **changes))


def test_absent_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(AvatarError, match=r"avatar\.json"):
        load_avatar(tmp_path)
    folder = _write(tmp_path / "box")
    (folder / "clip.mp4").write_bytes(b"no video")
    with pytest.raises(AvatarError, match=r"clip\.mp4: expected a video clip"):
        load_avatar(folder)
    (folder / "clip.mp4").unlink()
    with pytest.raises(AvatarError, match=r"clip\.mp4"):
        load_avatar(folder)
    (folder / "avatar.json").write_text("{", encoding="utf-8")
    with pytest.raises(AvatarError, match="expected JSON"):
        load_avatar(folder)
