from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from engine.errors import ConfigError
from training.crop_pictures import HELD_OUT_EVERY, PictureFolder


def write_grey(path: Path, level: int, height: int = 8, width: int = 8) -> None:
    cv2.imwrite(str(path), np.full((height, width, 3), level, np.uint8))


def levels(pictures: torch.Tensor) -> set[int]:
    return {round(float(value) * 127.5 + 127.5) for value in pictures[:, 0, 0, 0]}


def test_every_tenth_picture_is_held_out(tmp_path: Path) -> None:
    for place in range(2 * HELD_OUT_EVERY):
        write_grey(tmp_path / f"{place:02}.png", 10 * place)
    draw = PictureFolder(tmp_path, 4)
    assert levels(draw(60, "test", 0)) == {0, 100}
    trained = draw(400, "train", 0)
    assert trained.shape == (400, 3, 4, 4)
    assert levels(trained) == {10 * place for place in range(20)} - {0, 100}
    assert torch.equal(draw(5, "train", 3), draw(5, "train", 3))


def test_what_is_no_square_picture_is_reported_once_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_grey(tmp_path / "a.png", 0)
    write_grey(tmp_path / "b.png", 50)
    write_grey(tmp_path / "c.png", 90, width=12)
    (tmp_path / "d.png").write_bytes(b"not a picture")
    with caplog.at_level(logging.WARNING):
        assert levels(PictureFolder(tmp_path, 8)(40, "train", 1)) == {50}
    told = sorted(record.getMessage().rpartition("/")[2] for record in caplog.records)
    assert told == [
        "c.png is left out: it is 12 x 8 and not square",
        "d.png is left out: it is no picture",
    ]


def test_a_folder_without_usable_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found 0"):
        PictureFolder(tmp_path, 8)
    write_grey(tmp_path / "a.png", 0)
    (tmp_path / "b.png").write_bytes(b"not a picture")
    with pytest.raises(ConfigError, match="all 1 of train are not"):
        PictureFolder(tmp_path, 8)(1, "train", 0)
