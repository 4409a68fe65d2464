"""The streaming lip-sync engine: sans-I/O, synchronous, numpy at its core."""

import sys

# OpenVINO tells Google Analytics of every import, unless this package of its cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
