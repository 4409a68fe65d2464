"""The call that asks a running server for moving lips."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from benchmarks.check_call import SOUND_HZ, SYLLABLES_HZ, babble, main


def test_a_server_that_is_not_there_is_a_failure_with_a_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert main([f"http://127.0.0.1:{port}", "--seconds", "1"]) == 1
    assert "no call" in capsys.readouterr().err


def test_the_babble_comes_in_syllables_as_loud_as_speech() -> None:
    samples = babble(1.0).astype(np.float64)
    assert len(samples) == SOUND_HZ
    block = SOUND_HZ // (SYLLABLES_HZ * 8)  # eight to a syllable
    loudness = np.sqrt((samples.reshape(-1, block) ** 2).mean(axis=1)) / 32768
    assert 0.05 < loudness.max() < 0.5
    quiet, loud = loudness.reshape(SYLLABLES_HZ, 8)[:, [0, 3]].T
    assert (loud > 5 * quiet).all()
