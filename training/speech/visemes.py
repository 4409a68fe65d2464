"""The mouth track of an utterance: phone timings in, `training.mouth` rows out.

Every viseme has a target and a weight for each parameter. On a grid of 2.5 ms
the track is the weighted mean of the targets under a kernel that looks ahead:
lips move 20 to 60 ms before the sound, and a sound that asks little of the lips
(low weight) takes the shape of its neighbours. Closures and bites are laid on
top, because they are reached fully however short the sound is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.media import F32, FPS, FRAME_SAMPLES, SAMPLE_RATE_HZ
from training.mouth import (
    BITE,
    CLOSURE,
    MOUTH_PARAMETERS,
    OPENING,
    ROUNDING,
    TEETH,
    TONGUE,
    WIDTH,
    rest_mouth,
)
from training.speech.phonemes import PAUSE, is_stop, visemes_of
from training.speech.utterance import Phone, Utterance

GRID_HZ: Final = 400
_GRID_PER_FRAME: Final = GRID_HZ // FPS

# opening, width, rounding, teeth, tongue of each viseme; then how much the
# viseme insists on opening, on width and rounding, and on teeth and tongue.
VISEMES: Final[dict[str, tuple[tuple[float, ...], tuple[float, float, float]]]] = {
    PAUSE: ((0.00, 0.00, 0.00, 0.0, 0.0), (1.0, 0.8, 1.0)),
    "ah": ((0.90, 0.05, 0.00, 0.3, 0.0), (1.2, 1.0, 1.0)),
    "ae": ((0.78, 0.40, 0.00, 0.5, 0.0), (1.2, 1.0, 1.0)),
    "uh": ((0.60, 0.00, 0.05, 0.3, 0.0), (1.0, 0.7, 1.0)),
    "schwa": ((0.42, 0.00, 0.05, 0.3, 0.0), (0.8, 0.4, 0.8)),
    "eh": ((0.54, 0.45, 0.00, 0.5, 0.0), (1.0, 1.0, 1.0)),
    "ih": ((0.38, 0.50, 0.00, 0.6, 0.0), (1.0, 0.9, 1.0)),
    "ee": ((0.28, 0.85, 0.00, 0.8, 0.0), (1.1, 1.2, 1.0)),
    "ue": ((0.20, -0.55, 0.90, 0.1, 0.0), (1.1, 1.4, 1.0)),
    "oe": ((0.38, -0.40, 0.75, 0.1, 0.0), (1.1, 1.3, 1.0)),
    "aw": ((0.66, -0.35, 0.50, 0.1, 0.0), (1.1, 1.2, 1.0)),
    "oh": ((0.45, -0.55, 0.75, 0.0, 0.0), (1.1, 1.3, 1.0)),
    "oo": ((0.20, -0.85, 1.00, 0.0, 0.0), (1.1, 1.5, 1.0)),
    "ou": ((0.28, -0.55, 0.75, 0.1, 0.0), (1.0, 1.2, 1.0)),
    "er": ((0.36, -0.25, 0.40, 0.2, 0.0), (1.0, 1.0, 1.0)),
    "lips": ((0.10, 0.00, 0.00, 0.0, 0.0), (0.5, 0.2, 0.3)),
    "bite": ((0.12, 0.10, 0.00, 0.3, 0.0), (1.2, 0.4, 0.6)),
    "near": ((0.07, -0.05, 0.10, 0.0, 0.0), (1.2, 0.4, 0.4)),
    "w": ((0.10, -0.90, 1.00, 0.0, 0.0), (1.3, 1.7, 1.0)),
    "s": ((0.12, 0.35, 0.00, 1.0, 0.0), (1.3, 0.5, 1.4)),
    "sh": ((0.18, -0.40, 0.70, 0.9, 0.0), (1.3, 1.3, 1.4)),
    "xi": ((0.14, 0.45, 0.05, 0.9, 0.0), (1.3, 0.8, 1.4)),
    "th": ((0.22, 0.10, 0.00, 0.3, 1.0), (1.1, 0.4, 1.4)),
    "t": ((0.18, 0.10, 0.00, 0.5, 0.7), (1.0, 0.25, 1.0)),
    "l": ((0.30, 0.10, 0.00, 0.3, 1.0), (0.9, 0.3, 1.4)),
    "r": ((0.24, -0.30, 0.45, 0.2, 0.1), (1.0, 0.9, 0.8)),
    "trill": ((0.28, 0.00, 0.05, 0.4, 0.7), (0.9, 0.3, 1.0)),
    "j": ((0.20, 0.70, 0.00, 0.6, 0.2), (1.0, 1.0, 0.8)),
    "back": ((0.28, 0.00, 0.00, 0.3, 0.0), (0.5, 0.15, 0.4)),
}
_SMOOTH: Final = (OPENING, WIDTH, ROUNDING, TEETH, TONGUE)
_WEIGHT_OF: Final = (0, 1, 1, 2, 2)
_LEAD_S: Final = (0.020, 0.035, 0.045, 0.010, 0.010)
_SIGMA_S: Final = (0.030, 0.045, 0.050, 0.025, 0.022)

_RAMP_S: Final = 0.045  # lips need this long to close and to part
_SHORTEST_HOLD_S: Final = 0.030
_LONGEST_GAP_S: Final = 0.130  # silence before a stop that still belongs to the stop
_SHORT_PAUSE_S: Final = 0.060  # a pause below this joins its neighbours
_ENERGY_HOP: Final = 80  # 5 ms
_BURST_DB: Final = 12.0  # a burst stands this far above the closure before it


@dataclass(frozen=True, slots=True)
class MouthStyle:
    """How much a speaker moves: factors on opening, width and rounding."""

    opening: float = 1.0
    width: float = 1.0
    rounding: float = 1.0


@dataclass(frozen=True, slots=True)
class Gesture:
    """One viseme in time; `hold` bounds the full closure or bite, if it has one."""

    viseme: str
    start_s: float
    end_s: float
    hold_s: tuple[float, float] | None = None


def gestures_of(utterance: Utterance) -> list[Gesture]:
    """The visemes of an utterance, with the silence before a stop given to the stop.

    espeak dates a stop at its burst and counts the closed part to the sound before.

    Raises:
        KeyError: a phone without a viseme.
    """
    loud = _loudness_db(utterance.samples)
    floor = float(loud.max()) - 38.0 if len(loud) else 0.0
    gestures: list[Gesture] = []
    for phone in utterance.phones:
        names = visemes_of(utterance.phone_set, phone.symbol)
        start = phone.start_s
        if not names or (names == (PAUSE,) and phone.end_s - start < _SHORT_PAUSE_S):
            _extend_to(gestures, phone.end_s)
            continue
        if is_stop(utterance.phone_set, phone.symbol):
            start = _closure_start(loud, floor, phone)
            _shorten_to(gestures, start)
        lengths = [_share(name) for name in names]
        edges = start + (phone.end_s - start) * np.cumsum([0.0, *lengths]) / sum(lengths)
        for index, name in enumerate(names):
            hold = None
            begin, end = float(edges[index]), float(edges[index + 1])
            if name == "lips":
                released = _release(loud, phone, start, begin, end)
                hold = _at_least(begin, released, _SHORTEST_HOLD_S)
            elif name == "bite":
                margin = 0.15 * (end - begin)
                hold = _at_least(begin + margin, end - margin, _SHORTEST_HOLD_S)
            gestures.append(Gesture(name, begin, end, hold))
    return gestures


def mouth_track(gestures: Sequence[Gesture], frames: int, style: MouthStyle | None = None) -> F32:
    """float32 [frames, 7] as `training.mouth` orders it, at the middle of every frame."""
    style = style or MouthStyle()
    points = frames * _GRID_PER_FRAME
    targets = np.zeros((len(_SMOOTH), points))
    weights = np.zeros((len(_SMOOTH), points))
    weights += np.asarray(VISEMES[PAUSE][1])[list(_WEIGHT_OF)][:, None]
    for gesture in gestures:
        first, last = round(gesture.start_s * GRID_HZ), round(gesture.end_s * GRID_HZ)
        target, weight = VISEMES[gesture.viseme]
        targets[:, first:last] = np.asarray(target)[:, None]
        weights[:, first:last] = np.asarray(weight)[list(_WEIGHT_OF)][:, None]
    track = rest_mouth(frames)
    middle = np.arange(frames) * _GRID_PER_FRAME + _GRID_PER_FRAME // 2
    for row, parameter in enumerate(_SMOOTH):
        kernel = _look_ahead_kernel(_LEAD_S[row], _SIGMA_S[row])
        half = len(kernel) // 2
        weighed = np.convolve(targets[row] * weights[row], kernel)[half : half + points]
        total = np.convolve(weights[row], kernel)[half : half + points]
        track[:, parameter] = (weighed / np.maximum(total, 1e-6))[middle]
    track[:, OPENING] *= style.opening
    track[:, WIDTH] *= style.width
    track[:, ROUNDING] *= style.rounding
    _hold_lips(track, gestures)
    low = np.zeros(len(MOUTH_PARAMETERS))
    low[WIDTH] = -1.0
    return np.clip(track, low, 1.0).astype(np.float32)


def _hold_lips(track: F32, gestures: Sequence[Gesture]) -> None:
    """Closes the lips and bites in place; the frame of a hold's centre reaches it fully."""
    frames = len(track)
    time = (np.arange(frames) + 0.5) / FPS
    for gesture in gestures:
        if gesture.hold_s is None:
            continue
        start, end = gesture.hold_s
        first = max(0, math.floor((start - 2 * _RAMP_S) * FPS))
        last = min(frames, math.ceil((end + 2 * _RAMP_S) * FPS) + 1)
        outside = np.maximum(np.maximum(start - time[first:last], time[first:last] - end), 0.0)
        grip = 0.5 + 0.5 * np.cos(np.pi * np.minimum(outside / _RAMP_S, 1.0))
        centre = math.floor((start + end) / 2 * FPS) - first
        if 0 <= centre < len(grip):
            grip[centre] = 1.0
        column = CLOSURE if gesture.viseme == "lips" else BITE
        track[first:last, column] = np.maximum(track[first:last, column], grip)
    track[:, BITE] *= 1.0 - track[:, CLOSURE]
    track[:, OPENING] = np.minimum(track[:, OPENING], 1.0 - 0.85 * track[:, BITE])
    for parameter in (OPENING, TEETH, TONGUE):
        track[:, parameter] *= 1.0 - track[:, CLOSURE]


def _look_ahead_kernel(lead_s: float, sigma_s: float) -> F32:
    """Odd-length convolution kernel whose weight lies `lead_s` in the future."""
    half = math.ceil((3.0 * sigma_s + lead_s) * GRID_HZ)
    offset = np.arange(-half, half + 1) / GRID_HZ
    kernel = np.exp(-0.5 * ((offset + lead_s) / sigma_s) ** 2)
    return np.asarray(kernel / kernel.sum(), np.float32)


def _loudness_db(samples: F32) -> F32:
    hops = len(samples) // _ENERGY_HOP
    power = np.square(samples[: hops * _ENERGY_HOP]).reshape(hops, _ENERGY_HOP).mean(axis=1)
    return np.asarray(10.0 * np.log10(power + 1e-10), np.float32)


def _closure_start(loud: F32, floor: float, phone: Phone) -> float:
    """Where the silence that runs into `phone` begins, or its own start."""
    hop_s = _ENERGY_HOP / SAMPLE_RATE_HZ
    index = min(int(phone.start_s / hop_s), len(loud)) - 1
    earliest = max(0, int((phone.start_s - _LONGEST_GAP_S) / hop_s))
    if index > 0 and loud[index] >= floor:
        index -= 1  # the burst may spill into the hop before the event
    while index >= earliest and loud[index] < floor:
        index -= 1
    return min(phone.start_s, max(0.0, (index + 1) * hop_s))


def _shorten_to(gestures: list[Gesture], start_s: float) -> None:
    """Ends what came before at `start_s`, where the next closure begins."""
    while gestures and gestures[-1].start_s >= start_s:
        gestures.pop()
    if gestures and gestures[-1].end_s > start_s:
        last = gestures.pop()
        hold = last.hold_s and (min(last.hold_s[0], start_s), min(last.hold_s[1], start_s))
        gestures.append(Gesture(last.viseme, last.start_s, start_s, hold))


def _extend_to(gestures: list[Gesture], end_s: float) -> None:
    """Lets the last gesture last until `end_s`; its hold stays."""
    if gestures:
        last = gestures.pop()
        gestures.append(Gesture(last.viseme, last.start_s, end_s, last.hold_s))


def _share(name: str) -> float:
    """Share of a phone that a viseme in it takes: the second half of a diphthong is short."""
    return 0.7 if name in ("ih", "ou", "ee", "back") else 1.0


def _release(loud: F32, phone: Phone, start_s: float, begin_s: float, end_s: float) -> float:
    """When the lips part: at the burst, which espeak dates and the others leave inside."""
    if phone.start_s - start_s > 0.015 and begin_s == start_s:
        return min(end_s, phone.start_s + 0.010)
    late = begin_s + 0.85 * (end_s - begin_s)
    hop_s = _ENERGY_HOP / SAMPLE_RATE_HZ
    first, last = int(begin_s / hop_s), min(int(end_s / hop_s), len(loud))
    if phone.symbol[:1] not in ("p", "b") or last - first < 4:
        return late
    quietest = first + int(np.argmin(loud[first:last]))
    louder = np.flatnonzero(loud[quietest:last] > loud[quietest] + _BURST_DB)
    if len(louder) == 0:
        return late
    return min(late, (quietest + int(louder[0])) * hop_s + 0.010)


def _at_least(start_s: float, end_s: float, length_s: float) -> tuple[float, float]:
    missing = max(0.0, length_s - (end_s - start_s))
    return start_s - missing / 2, end_s + missing / 2


def frames_of(samples: int) -> int:
    """Whole video frames that `samples` of speech need."""
    return -(-samples // FRAME_SAMPLES)
