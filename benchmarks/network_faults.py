"""Loss, jitter and outages between two network namespaces: stock aiortc against patched.

    python -m benchmarks.network_faults --seconds 30 --json network_faults.json      # as root

The echo of `benchmarks.aiortc_overrides`, each end in a namespace of its own, over the link of
`benchmarks.faulty_link`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.faulty_link import LinkFaults, linked_namespaces
from benchmarks.report import here
from server.config import REPOSITORY

CASES = {
    "clean": LinkFaults(),
    "loss 1 %": LinkFaults(loss=0.01),
    "loss 5 %": LinkFaults(loss=0.05),
    "20 ms and jitter of 30 ms": LinkFaults(delay_ms=20, jitter_ms=30),
    "an outage of 2 s every 15 s": LinkFaults(outage_s=2.0, outage_every_s=15.0),
}


async def run_case(name: str, which: str, seconds: float) -> dict[str, Any]:
    """One call's figures over one link."""
    caller, echo = (f"lipwire-{os.getpid()}-{end}" for end in ("caller", "echo"))
    async with linked_namespaces((caller, echo), CASES[name]) as link:
        process = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", caller, sys.executable, "-m", "benchmarks.aiortc_overrides",
            "--seconds", str(seconds), "--echo-namespace", echo, "--case", which, "0",
            stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY,
        )  # fmt: skip
        output, _ = await process.communicate()
        figures: dict[str, Any] = json.loads(output)
        figures |= {"link": name, "packets": link.carried + link.lost, "lost": link.lost}
    del figures["loss"]
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.network_faults", description=__doc__
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="measured of each case")
    parser.add_argument("--links", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    circumstances = asdict(here("python -m benchmarks.network_faults", given))

    async def measure() -> list[dict[str, Any]]:
        return [
            await run_case(name, which, options.seconds)
            for name in options.links
            for which in ("stock", "patched")
        ]

    cases = asyncio.run(measure())
    circumstances["load_average"] = round(os.getloadavg()[1], 1)
    text = json.dumps({"circumstances": circumstances, "cases": cases}, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
