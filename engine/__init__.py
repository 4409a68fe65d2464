"""The streaming lip-sync engine: sans-I/O, synchronous, numpy at its core."""

import os
import sys

# OpenVINO tells Google Analytics of every import, unless this package of its cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
# onnxruntime tells Microsoft of every session since 1.32, and keeps a device's number for it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
