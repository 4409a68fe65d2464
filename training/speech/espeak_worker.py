"""The program in which espeak-ng speaks: texts in on stdin, samples and phones out.

The library keeps flutter and noise running from one text to the next, so the
same text sounds different the second time. A process of its own for every
request makes speech repeatable. Standard library only: it starts in 30 ms.

Reads one JSON object {"voice", "rate_wpm", "pitch", "pitch_range", "texts"};
writes one line of JSON, {"rate_hz", "spoken": [{"count", "phones": [[first
sample, IPA], ...]}]} or {"error"}, and then the int16 samples of all texts.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any, Final

ESPEAK_LIBRARY: Final = "libespeak-ng.so.1"

_SYNCHRONOUS = 2  # espeak_AUDIO_OUTPUT: the callback gets the samples inside espeak_Synth
_PHONEME_EVENTS_AS_IPA = 0x1 | 0x2
_EVENT_END, _EVENT_PHONEME = 0, 7
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4


class _EventId(ctypes.Union):
    _fields_ = (
        ("number", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("string", ctypes.c_char * 8),
    )


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position_ms", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


class _Failed(Exception):
    """What to tell the caller."""


def speak(request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The answer to `request`, and the samples."""
    try:
        library = ctypes.CDLL(ESPEAK_LIBRARY)
    except OSError as error:
        raise _Failed(f"expected {ESPEAK_LIBRARY} (package libespeak-ng1)") from error
    rate_hz = int(library.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS_AS_IPA))
    if rate_hz <= 0:
        raise _Failed(f"{ESPEAK_LIBRARY} did not start: {rate_hz}")
    sound = bytearray()
    phones: list[tuple[int, str]] = []

    def receive(wav: Any, count: int, events: Any) -> int:
        if count > 0:
            sound.extend(ctypes.string_at(wav, 2 * count))
        index = 0
        while events[index].type != _EVENT_END:
            if events[index].type == _EVENT_PHONEME:
                name = bytes(events[index].id.string).split(b"\0")[0]
                phones.append((int(events[index].sample), name.decode("utf-8", "ignore")))
            index += 1
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        raise _Failed(f"espeak-ng has no voice {request['voice']!r}")
    for parameter, key in ((_RATE, "rate_wpm"), (_PITCH, "pitch"), (_RANGE, "pitch_range")):
        library.espeak_SetParameter(parameter, request[key], 0)
    spoken = []
    for text in request["texts"]:
        before = len(sound)
        phones.clear()
        data = text.encode()
        library.espeak_Synth(data, len(data) + 1, 0, 1, 0, _UTF8, None, None)
        spoken.append({"count": (len(sound) - before) // 2, "phones": list(phones)})
    return {"rate_hz": rate_hz, "spoken": spoken}, bytes(sound)


def main() -> None:
    try:
        answer, sound = speak(json.load(sys.stdin))
    except _Failed as error:
        answer, sound = {"error": str(error)}, b""
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n" + sound)


if __name__ == "__main__":
    main()
