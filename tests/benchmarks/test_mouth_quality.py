"""Pictures before the encoder, kept and read, and how two of them are held beside each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.mouth_quality import Lips, psnr_db
from benchmarks.tapped_server import HEADER, read_tap
from server.config import BUNDLED_AVATARS


def test_pictures_that_were_kept_are_read_in_their_sizes(tmp_path: Path) -> None:
    path = tmp_path / "12345678"
    with path.open("ab") as file:
        for number, (height, width) in enumerate(((4, 6), (8, 2))):
            header = np.array((3 * number, height, width), HEADER)
            file.write(header.tobytes() + bytes(range(height * width)))
    kept = list(read_tap(path))
    assert [(number, luma.shape) for number, luma in kept] == [(0, (4, 6)), (3, (8, 2))]
    assert kept[1][1][7, 1] == 15


def test_one_grey_level_everywhere_is_48_db() -> None:
    picture = np.full((20, 30), 100, np.uint8)
    assert psnr_db(picture, picture + 1) == pytest.approx(48.13, abs=0.01)
    assert psnr_db(picture, picture) == 99.0


def test_lips_lie_in_the_lower_half_of_the_picture() -> None:
    rows, columns = Lips(BUNDLED_AVATARS / "anna").box(0)
    assert 256 < rows.start < rows.stop < 512
    assert 20 < columns.stop - columns.start < 256
