"""How far an exported network may be from torch in f32.

Of |ours - torch| / |torch| in the 2-norm, output by output. In f32 other orders of the same sums
differ by about 1e-6 a layer. In 16 bits a rounding is 5e-4 (f16) or 4e-3 (bf16) of a number, and a
network of some hundred layers that adds to what it reads collects three to five of them. f8's lie
between what the bundled model speaks with as it does in f32 (0.02 of its output, 0.09 of what is
carried) and what its mouths are less like the truth with (0.10 and 0.29; `benchmarks.f8`).
"""

from __future__ import annotations

from export.request import Precision

TOLERANCES: dict[Precision, float] = {"f32": 1e-4, "f16": 5e-3, "bf16": 3e-2, "f8": 3e-2}
# Of keys, values and moments: attention over many of them averages their rounding out.
F8_CARRIED_TOLERANCE = 0.15


def tolerance_of(precision: Precision, output: str) -> float:
    """The largest relative error that an output may have, by its name."""
    if precision == "f8" and output.startswith("new_"):
        return F8_CARRIED_TOLERANCE
    return TOLERANCES[precision]
