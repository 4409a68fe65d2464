"""What hops cost in an engine, measured on a tiny model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from engine.media import FRAME_SAMPLES
from server.config import STREAMS_CORE
from server.engine_process.streams import StreamsCore
from tests.server_fakes import engine_settings, make_avatar


def test_an_engine_says_what_its_hops_cost(tiny_onnx_model: Path, tmp_path: Path) -> None:
    make_avatar(tmp_path)
    settings = dataclasses.replace(
        engine_settings(avatars=(tmp_path,)),
        core=STREAMS_CORE,
        model=str(tiny_onnx_model),
        backend="onnxruntime",
        hop_frames=4,
        calibrate=True,
    )
    ready = StreamsCore(settings).describe()
    assert [cost.batch for cost in ready.hop_costs] == [1]
    cost = ready.hop_costs[0]
    # More than the network: crops are pasted, sound is analysed.
    assert cost.cpu_ms > 0 and ready.hop_ms * 0.3 < cost.wall_ms < 1000
    assert ready.hop_frames * FRAME_SAMPLES == 4 * 640


def test_an_engine_that_is_not_asked_measures_nothing(
    tiny_onnx_model: Path, tmp_path: Path
) -> None:
    settings = dataclasses.replace(
        engine_settings(avatars=(tmp_path,)),
        model=str(tiny_onnx_model),
        backend="onnxruntime",
        hop_frames=4,
    )
    assert StreamsCore(settings).describe().hop_costs == ()
