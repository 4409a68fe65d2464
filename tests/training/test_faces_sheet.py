"""A contact sheet shows faces that differ, and the mouths it names."""

from __future__ import annotations

import numpy as np

from training.faces.sheet import mouth_sheet


def test_a_sheet_has_a_row_for_every_face_and_repeats_by_its_seed() -> None:
    sheet = mouth_sheet(2, 5)
    assert sheet.shape == (2 * 128, 9 * 128, 3)
    np.testing.assert_array_equal(sheet, mouth_sheet(2, 5))
    cells = sheet.reshape(2, 128, 9, 128, 3).astype(np.int16).swapaxes(1, 2)
    assert np.abs(cells[0] - cells[1]).mean() > 5.0
    for other in cells[0, 1:]:
        assert np.abs(other - cells[0, 0])[40:110, 30:98].mean() > 1.0
