"""Nobody elsewhere is told that OpenVINO or onnxruntime was imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import engine.backends.openvino_backend, sys
from openvino.tools.ovc import telemetry
print(type(telemetry).__module__, sys.modules["openvino_telemetry"])
"""


def test_the_backend_imports_openvino_without_its_telemetry(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "None"]
    assert list(tmp_path.iterdir()) == []  # its client's number would lie here


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_onnxruntime_keeps_no_number_and_nothing_to_be_sent(tmp_path: Path) -> None:
    program = (
        "import engine.backends.onnxruntime_backend, os\n"
        "folder = '/proc/self/fd'\n"
        "files = [os.path.realpath(f'{folder}/{name}') for name in os.listdir(folder)]\n"
        "print([file for file in files if file.endswith('.db')])\n"
    )
    dropped = ("CI", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["[]"]
    assert list(tmp_path.iterdir()) == []
