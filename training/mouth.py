"""What a mouth does in one frame: the truth that speech gives and the renderer draws.

A mouth track is float32 [frames, 7] at 25 fps, one column a parameter, in the
order of `MOUTH_PARAMETERS`; row i is the mouth at the middle of frame i,
sample 640 i + 320 of the 16 kHz speech. All zeros is a relaxed closed mouth.

    opening   0 lips touch .. 1 as open as speech gets (a shouted "ah")
    width    -1 narrow (u) .. 0 at rest .. 1 spread (i)
    rounding  0 .. 1 lips pushed forward (u, w, sh)
    closure   0 .. 1 lips pressed together (p, b, m); 1 forces opening to 0
    bite      0 .. 1 upper teeth on the lower lip (f, v)
    teeth     0 .. 1 how much of the teeth an open mouth shows (s, z, i)
    tongue    0 .. 1 tongue tip raised to the teeth (th, l, n, t, d)
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.media import F32

MOUTH_PARAMETERS: Final = ("opening", "width", "rounding", "closure", "bite", "teeth", "tongue")
OPENING, WIDTH, ROUNDING, CLOSURE, BITE, TEETH, TONGUE = range(len(MOUTH_PARAMETERS))


def rest_mouth(frames: int) -> F32:
    """float32 [frames, 7] of a relaxed closed mouth, as in a pause."""
    return np.zeros((frames, len(MOUTH_PARAMETERS)), np.float32)
