"""Nobody elsewhere is told that OpenVINO was imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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
