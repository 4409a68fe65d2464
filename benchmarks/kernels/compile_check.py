"""Compiles the Triton kernels for a Hopper GPU where there is none, and says what they take.

    pip install triton && python -m benchmarks.kernels.compile_check

Every shape of the published network at 256, bf16: registers a thread and bytes spilled. What
spills, or does not compile, fails.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import triton
import triton.backends.nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from benchmarks.kernels import group_norm_triton, temporal_attention_triton
from benchmarks.kernels.workloads import workloads_of
from benchmarks.measure import table
from benchmarks.synthetic import spec_of

TARGET = GPUTarget("cuda", 90, 32)
ARCHITECTURE = "sm_90a"
HOPS = (1, 4, 8)
WINDOW = 16


def kernels() -> Iterator[tuple[str, Any, dict[str, str], dict[str, int], int]]:
    """Name, function, types of arguments, compile-time numbers, warps."""
    loads = workloads_of(spec_of("published"))
    bf16 = {"x": "*bf16", "out": "*bf16", "weight": "*bf16", "bias": "*bf16"}
    moments = {"ring": "*fp32", "own": "*fp32", "present": "*fp32", "eps": "fp32"}
    for norm in sorted(loads.norms, key=lambda shape: (shape.size, shape.channels)):
        size = norm.channels // norm.groups * norm.size**2
        numbers = {
            "frames": 4,
            "groups": norm.groups,
            "size": size,
            "block": min(group_norm_triton.BLOCK, triton.next_power_of_2(size)),
        }
        name = f"{norm.channels} x {norm.size} x {norm.size}"
        types = {"x": "*bf16", "own": "*fp32"}
        yield f"moments {name}", group_norm_triton.frame_moments, types, numbers, 4
        more = {"pixels": norm.size**2, "context": WINDOW - 4, "slots": WINDOW}
        yield (
            f"norm {name}",
            group_norm_triton.norm_silu,
            {**bf16, **moments},
            {**numbers, **more},
            4,
        )
    pointers = dict.fromkeys(("q", "own", "ring", "places", "out"), "*bf16")
    types = {**pointers, "oldest": "*i32", "valid": "*fp32", "scale": "fp32"}
    for shape in sorted(loads.attentions, key=lambda item: -item.pixels):
        width = shape.channels // shape.heads
        lanes = triton.next_power_of_2(width)
        for hop in HOPS:
            for elements, warps in temporal_attention_triton.TILES:
                numbers = {
                    "pixels": shape.pixels,
                    "channels": shape.channels,
                    "context": WINDOW - hop,
                    "ring_slots": WINDOW - hop,
                    "hop": hop,
                    "width": width,
                    "lanes": lanes,
                    "slots": WINDOW,
                    "tile_pixels": max(1, min(shape.pixels, elements // (lanes * WINDOW))),
                }
                name = f"attention {shape.pixels} x {shape.channels} hop {hop} {elements}/{warps}"
                yield name, temporal_attention_triton.attend_ring, types, numbers, warps


def resources(ptx: str) -> tuple[int, int]:
    """Registers a thread and bytes spilled, as NVIDIA's assembler says."""
    assembler = Path(triton.backends.nvidia.__file__).parent / "bin" / "ptxas"
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        command = [str(assembler), "-v", f"-arch={ARCHITECTURE}", file.name, "-o", "/dev/null"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = max(int(number) for number in re.findall(r"Used (\d+) registers", said))
    spilled = sum(int(number) for number in re.findall(r"(\d+) bytes spill", said))
    return registers, spilled


def main() -> int:
    """Compiles everything and prints a table; 1 where something spills."""
    rows: list[dict[str, object]] = []
    worst = 0
    for name, function, types, numbers, warps in kernels():
        signature = {**types, **dict.fromkeys(numbers, "constexpr")}
        source = ASTSource(function, signature, numbers)
        built = triton.compile(source, target=TARGET, options={"num_warps": warps})
        registers, spilled = resources(built.asm["ptx"])
        worst = max(worst, spilled)
        rows.append({"kernel": name, "warps": warps, "registers": registers, "spilled": spilled})
    sys.stdout.write(table(rows))
    sys.stdout.write(f"{len(rows)} kernels for {ARCHITECTURE}, Triton {triton.__version__}\n")
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
