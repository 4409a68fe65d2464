"""A backend that takes the engine down again and again gives way."""

from __future__ import annotations

from server.engine_link.crash_record import CRASHES, WITHIN_S, CrashRecord


def test_the_third_crash_within_a_minute_is_one_too_many() -> None:
    record = CrashRecord()
    assert [record.note("openvino", at) for at in (0.0, 20.0, 59.0)] == [False, False, True]
    assert "3 times within 60 s" in record.avoid["openvino"]


def test_rare_crashes_are_restarts_and_nothing_more() -> None:
    record = CrashRecord()
    apart = WITHIN_S / (CRASHES - 1) + 1
    assert not any(record.note("openvino", number * apart) for number in range(10))
    assert record.avoid == {}


def test_backends_are_counted_apart_and_can_be_forgiven() -> None:
    record = CrashRecord()
    for name in ("openvino", "onnxruntime", "openvino", "onnxruntime"):
        assert not record.note(name, 1.0)
    assert record.note("openvino", 2.0) and set(record.avoid) == {"openvino"}
    record.forgive()
    assert record.avoid == {} and not record.note("openvino", 3.0)
