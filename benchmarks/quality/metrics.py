"""What the eye would complain about, as numbers: seams, pulses, lateness, drift, distance.

Pure numpy. A clip is uint8 [frames, R, R, 3]; several clips of one measurement
are given as a list, each a stream of its own that began at its frame 0, so
hop borders lie before its frames h, 2 h, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.media import F32, FPS, U8

F64 = NDArray[np.float64]

SEGMENT: Final = 128  # frames a spectrum, a multiple of every hop: 25 / h Hz is a bin of its own
_LOBE: Final = 1  # bins beside a line that a Hann window smears it into
_NEIGHBOURS: Final = 4  # bins beyond those, on either side, that it is held against
_RESAMPLES: Final = 400
_SETTLE: Final = 16  # frames of a stream's start, which lack their context
_BLOCK: Final = 8  # transitions that are resampled together
_COARSE: Final = 8  # pixels a side of the squares whose colour is a face's look


@dataclass(frozen=True, slots=True)
class Seam:
    """How much more a mouth changes across hop borders than inside hops.

    Speech is not steady, so chance makes borders differ from the rest; `ratio` has that
    chance in it and `excess` has not, or less of it.

    Attributes:
        ratio: mean |frame difference| at borders over that inside hops.
        truth: the same of the truth at the same frames: what the speech itself does there.
        excess: 1 is seamless. Paired: changes at borders over the changes between the very
            same pictures where another round of the clip had no border. Else ratio / truth.
        low, high: 90 % of `excess` over resampled stretches.
    """

    ratio: float
    truth: float
    excess: float
    low: float
    high: float
    paired: bool


@dataclass(frozen=True, slots=True)
class PhaseError:
    """The opening's error by a frame's place in its hop.

    Attributes:
        mean: mean |error| of each place, 0 .. h - 1.
        spread: the worst place's over the best place's, less 1.
    """

    mean: tuple[float, ...]
    spread: float


def changes(clip: U8, box: tuple[int, int, int, int]) -> F64:
    """[frames - 1] mean |frame difference| in levels inside a box (left, top, right, bottom)."""
    left, top, right, bottom = box
    part = clip[:, top:bottom, left:right].astype(np.int16)
    return np.asarray(np.abs(np.diff(part, axis=0)).mean(axis=(1, 2, 3)), np.float64)


def seam(
    changed: Sequence[F64], truth: Sequence[F64], hop: int, period: int | None = None
) -> Seam | None:
    """The seam of clips with `changes`; None with hop 1, where every frame is a border.

    Args:
        changed, truth: of the generated clips and of the rendered truth, [frames - 1] each.
        period: frames after which a clip's input begins again, no multiple of the hop;
            None: it does not.

    Raises:
        ValueError: a period of whole hops, whose borders fall on the same frames every time.
    """
    if hop < 2:
        return None
    if period is not None and period % hop == 0:
        raise ValueError(f"expected a period that is no multiple of {hop}, got {period}")
    table = np.concatenate([_stretches(c, t, hop) for c, t in zip(changed, truth, strict=True)])
    ratio, real = _ratios(table.sum(axis=0))
    paired = [pairs for c in changed for pairs in _pairs(c, hop, period)] if period else []
    if paired:
        table, excess_of = np.stack(paired), _paired_excess
    else:
        excess_of = _corrected_excess
    dice = np.random.default_rng(0)
    drawn = dice.integers(len(table), size=(_RESAMPLES, len(table)))
    low, high = np.percentile([excess_of(table[rows].sum(axis=0)) for rows in drawn], (5, 95))
    return Seam(ratio, real, excess_of(table.sum(axis=0)), float(low), float(high), bool(paired))


def _stretches(made: F64, real: F64, hop: int) -> F64:
    """[hops, 6] made and real at the border, their sums inside, and how many those are."""
    rows = []
    for first in range(hop - 1, len(made) - hop + 1, hop):
        inside = slice(first + 1, first + hop)
        rows.append((made[first], real[first], made[inside].sum(), real[inside].sum(), 1, hop - 1))
    return np.asarray(rows, np.float64)


def _ratios(sums: F64) -> tuple[float, float]:
    made_border, real_border, made_inside, real_inside, borders, insides = sums
    ratio = (made_border / borders) / max(made_inside / insides, 1e-9)
    real = (real_border / borders) / max(real_inside / insides, 1e-9)
    return float(ratio), float(real)


def _corrected_excess(sums: F64) -> float:
    ratio, real = _ratios(sums)
    return ratio / max(real, 1e-9)


def _pairs(made: F64, hop: int, period: int) -> list[F64]:
    """[2] sums over short stretches: at borders, and of the same transitions without one."""
    at_border = (np.arange(len(made)) + 1) % hop == 0
    sums = []
    for first in range(_SETTLE, min(period - 1, len(made) - period) - _BLOCK, _BLOCK):
        here, there = (slice(start, start + _BLOCK) for start in (first, first + period))
        only_here, only_there = (
            at_border[here] & ~at_border[there],
            at_border[there] & ~at_border[here],
        )
        if not (only_here.any() or only_there.any()):
            continue
        border = made[here][only_here].sum() + made[there][only_there].sum()
        inside = made[there][only_here].sum() + made[here][only_there].sum()
        sums.append(np.asarray((border, inside), np.float64))
    return sums


def _paired_excess(sums: F64) -> float:
    return float(sums[0] / max(float(sums[1]), 1e-9))


def spectrum(changed: Sequence[F64]) -> tuple[F64, F64]:
    """Frequencies in Hz and mean power of the change, by Welch's method under a Hann window.

    Raises:
        ValueError: no clip has a whole segment.
    """
    window = np.hanning(SEGMENT + 1)[:-1]
    powers = []
    for series in changed:
        for first in range(0, len(series) - SEGMENT + 1, SEGMENT // 2):
            piece = series[first : first + SEGMENT]
            powers.append(np.abs(np.fft.rfft((piece - piece.mean()) * window)) ** 2)
    if not powers:
        raise ValueError(f"expected a clip of more than {SEGMENT} frames")
    return np.fft.rfftfreq(SEGMENT, 1 / FPS).astype(np.float64), np.mean(powers, axis=0)


def hop_line_db(changed: Sequence[F64], hop: int) -> float | None:
    """The power of the change at 25 / h Hz over its neighbours', in dB; about 0 is no pulse.

    None with hop 1 or one that no bin holds, and where clips are too short.
    """
    if hop < 2 or SEGMENT % hop or max(map(len, changed)) < SEGMENT:
        return None
    _, power = spectrum(changed)
    line = SEGMENT // hop
    near = [
        line + side * away
        for away in range(_LOBE + 1, _LOBE + 1 + _NEIGHBOURS)
        for side in (-1, 1)
        if 0 < line + side * away < len(power)
    ]
    around = float(power[near].mean())
    if min(around, power[line]) <= 0.0:  # nothing moves
        return None
    return float(10 * np.log10(power[line] / around))


def phase_error(found: Sequence[F32], truth: Sequence[F32], hop: int) -> PhaseError:
    """The error of the mouth's opening by frame index mod h.

    Args:
        found, truth: openings [frames] of each clip.
    """
    error = [np.abs(read - real) for read, real in zip(found, truth, strict=True)]
    place = np.concatenate([np.arange(len(item)) % hop for item in error])
    every = np.concatenate(error)
    mean = tuple(float(every[place == phase].mean()) for phase in range(hop))
    return PhaseError(mean, max(mean) / max(min(mean), 1e-9) - 1.0)


def sharpness(clip: U8, box: tuple[int, int, int, int]) -> F64:
    """[frames] mean |Laplacian| of the luma inside a box, in levels."""
    left, top, right, bottom = box
    luma = clip[:, top:bottom, left:right].astype(np.float32) @ np.asarray(
        (0.299, 0.587, 0.114), np.float32
    )
    centre = 4 * luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return np.asarray(np.abs(centre - around).mean(axis=(1, 2)), np.float64)


def look_error(clip: U8, truth: U8, generated: F32) -> F64:
    """[frames] RMS difference in levels of coarse colour over the generated part.

    Squares of 8 pixels a side do not see lips and teeth move by little; they see skin
    that changes its tone: the face becoming somebody else.

    Args:
        generated: [R, R] 1 where the crop is generated.
    """
    size = clip.shape[1] // _COARSE
    weight = generated[: size * _COARSE, : size * _COARSE]
    weight = weight.reshape(size, _COARSE, size, _COARSE).mean(axis=(1, 3))
    error = np.empty(len(clip))
    for index, (made, real) in enumerate(zip(clip, truth, strict=True)):
        off = made.astype(np.float32) - real
        off = off[: size * _COARSE, : size * _COARSE]
        coarse = off.reshape(size, _COARSE, size, _COARSE, 3).mean(axis=(1, 3))
        error[index] = np.sqrt((weight[..., None] * coarse**2).sum() / (3 * weight.sum()))
    return error


def psnr_db(clips: Sequence[U8], others: Sequence[U8], box: tuple[int, int, int, int]) -> float:
    """Peak signal to noise between clips inside a box, over all frames of all clips."""
    left, top, right, bottom = box
    squares = [
        np.square(
            clip[:, top:bottom, left:right].astype(np.float32) - other[:, top:bottom, left:right]
        ).mean(axis=(1, 2, 3), dtype=np.float64)
        for clip, other in zip(clips, others, strict=True)
    ]
    return float(10 * np.log10(255.0**2 / max(float(np.concatenate(squares).mean()), 1e-9)))


def latent_distance(latents: Sequence[F32], others: Sequence[F32], generated: F32) -> float:
    """RMS difference of latents over the generated part, relative to the others' own spread.

    Args:
        latents, others: [frames, C, s, s] of each clip.
        generated: [s, s] 1 where latents are generated.
    """
    inside = generated > 0.5
    off, own = 0.0, 0.0
    for found, want in zip(latents, others, strict=True):
        a, b = found[..., inside].astype(np.float64), want[..., inside].astype(np.float64)
        off += float(np.square(a - b).mean())
        own += float(np.square(b - b.mean(axis=(0, 2), keepdims=True)).mean())
    return float(np.sqrt(off / max(own, 1e-12)))
