"""Compares this implementation with a folder of the published one's numbers.

    python -m benchmarks.conformance tests/golden/latentsync
    python -m benchmarks.conformance DIR --json > conformance.json

Prints a line for each case and subcase: how many comparisons it has, and the error
and tolerance of the one that is nearest to failing; every comparison that failed.
Exits with 1 if one fails, or a file is missing or malformed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.conformance.audio_case import check_whisper
from benchmarks.conformance.checks import Check, Report, summary
from benchmarks.conformance.face_case import check_align_restore
from benchmarks.conformance.folder import FixtureError, read_case, read_json
from benchmarks.conformance.pipeline_case import check_pipeline
from benchmarks.conformance.small_cases import check_ddim, check_mask, check_weight_rule
from benchmarks.conformance.syncnet_cases import check_syncnet, check_syncnet_manifest
from benchmarks.conformance.unet_cases import check_unet, check_unet_manifest


def _cases(folder: Path, device: str) -> dict[str, Callable[[Report], None]]:
    """What has to be in a folder, and how each is checked."""

    def network(name: str, check: Callable[..., None]) -> Callable[[Report], None]:
        def run(report: Report) -> None:
            case = read_case(folder, name)
            check(case, report, device)
            _check_all_read(case.unread, name, report)

        return run

    def plain(name: str, check: Callable[..., None], *, tensors: bool) -> Callable[[Report], None]:
        def run(report: Report) -> None:
            case = read_case(folder, name, tensors=tensors)
            check(case, report)
            _check_all_read(case.unread, name, report)

        return run

    def manifest(name: str, check: Callable[..., None]) -> Callable[[Report], None]:
        return lambda report: check(name, read_json(folder / f"{name}.json.gz"), report)

    return {
        "weight_rule_check": plain("weight_rule_check", check_weight_rule, tensors=False),
        "unet_stage2": network("unet_stage2", check_unet),
        "unet_stage2_efficient": network("unet_stage2_efficient", check_unet),
        "unet_stage2_manifest": manifest("unet_stage2_manifest", check_unet_manifest),
        "unet_stage2_efficient_manifest": manifest(
            "unet_stage2_efficient_manifest", check_unet_manifest
        ),
        "whisper_features": network("whisper_features", check_whisper),
        "align_restore": plain("align_restore", check_align_restore, tensors=True),
        "mask": plain("mask", check_mask, tensors=False),
        "pipeline_inner_loop": network("pipeline_inner_loop", check_pipeline),
        "syncnet_small": network("syncnet_small", check_syncnet),
        "syncnet_16_pixel_attn_manifest": manifest(
            "syncnet_16_pixel_attn_manifest", check_syncnet_manifest
        ),
        "ddim": plain("ddim", check_ddim, tensors=True),
    }


def _check_all_read(unread: set[str], name: str, report: Report) -> None:
    for tensor in sorted(unread):
        report.problem(name, tensor, "this stored tensor belongs to no known comparison")


def run_conformance(folder: Path, device: str = "cpu", only: str = "") -> Report:
    """All comparisons of a folder.

    Args:
        device: torch device of the networks.
        only: run the cases whose names hold this.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    report = Report()
    if not folder.is_dir():
        report.problem(str(folder), "", "expected a folder of reference files, found none")
        return report
    for name, check in _cases(folder, device).items():
        if only not in name:
            continue
        try:
            check(report)
        except FixtureError as error:
            report.problem(name, "", str(error))
        except Exception as error:  # noqa: BLE001  one broken case must not hide the others
            report.problem(name, "", f"malformed, {type(error).__name__}: {error}")
    return report


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; 0 if all is within tolerance."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.conformance",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="example: python -m benchmarks.conformance tests/golden/latentsync",
    )
    parser.add_argument("folder", type=Path, help="folder of reference files")
    parser.add_argument("--device", default="cpu", help="torch device (default: cpu)")
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--verbose", action="store_true", help="print every comparison")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    report = run_conformance(options.folder, options.device, options.only)
    if options.json:
        _print(json.dumps({"ok": report.ok, "checks": [_as_json(c) for c in report.checks]}))
    else:
        cases: dict[str, list[Check]] = {}
        for check in report.checks:
            cases.setdefault(check.case, []).append(check)
            if options.verbose:
                _print(check.line())
        for checks in () if options.verbose else cases.values():
            _print(summary(checks))
        failed = sum(not check.ok for check in report.checks)
        _print(f"{len(report.checks) - failed} of {len(report.checks)} comparisons passed")
    return 0 if report.ok else 1


def _as_json(check: Check) -> dict[str, object]:
    error = None if check.problem else check.error
    return {**dataclasses.asdict(check), "error": error, "ok": check.ok}


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
