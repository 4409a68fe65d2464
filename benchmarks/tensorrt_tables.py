"""The figures of `benchmarks.gpu_tensorrt` as tables, as text and as a page."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import table
from benchmarks.report import Circumstances, Report, Section, Table

REFERENCE = "torch"  # the runtime that the others are held beside
HOP_COLUMNS = (
    "case",
    "batch",
    "hop_ms_p50",
    "hop_ms_p95",
    "frames_s",
    "sessions_25fps",
    "of_torch",
    "peak_mb",
)
PLAN_COLUMNS = ("case", "plan", "mb", "build_s", "load_s", "golden_error", "tolerance")


def hop_table(figures: dict[str, Any]) -> list[dict[str, object]]:
    """A row for every case and batch; `of_torch` is frames a second over torch's at that batch."""
    torch_rows: list[dict[str, Any]] = next(
        (c.get("hops", []) for c in figures["cases"] if c["runtime"] == REFERENCE), []
    )
    base = {row["batch"]: row["frames_s"] for row in torch_rows}
    return [
        {
            "case": case["case"],
            **{key: row[key] for key in HOP_COLUMNS[1:6]},
            "of_torch": round(row["frames_s"] / base[row["batch"]], 2)
            if row["batch"] in base
            else None,
            "peak_mb": case.get("peak_mb"),
        }
        for case in figures["cases"]
        for row in case.get("hops", [])
    ]


def plan_table(figures: dict[str, Any]) -> list[dict[str, object]]:
    """A row for every plan or package of every case."""
    return [
        {"case": case["case"], **{key: row.get(key) for key in PLAN_COLUMNS[1:]}}
        for case in figures["cases"]
        for row in case.get("plans", [])
    ]


def network_table(figures: dict[str, Any]) -> list[dict[str, object]]:
    """A row for every network and batch, a column of milliseconds for every case."""
    found: dict[tuple[str, int], dict[str, object]] = {}
    for case in figures["cases"]:
        for row in case.get("networks", []):
            at = found.setdefault((row["network"], row["batch"]), {})
            at[case["case"]] = row["ms"]
    names = list(dict.fromkeys(name for at in found.values() for name in at))
    return [
        {"network": network, "batch": batch, **{name: at.get(name) for name in names}}
        for (network, batch), at in found.items()
    ]


def refusals(figures: dict[str, Any]) -> list[str]:
    """What was refused, in the words of who refused it."""
    said = [f"{c['case']}: {c['refusal']}" for c in figures["cases"] if c.get("refusal")]
    return said + [f"no time for {what}" for what in figures.get("skipped", [])]


def summary(figures: dict[str, Any]) -> str:
    """The figures as text, the hops last."""
    apart = "".join(
        f"{case['case']}: {case['beside_torch']['levels_mean']} of 255 levels from torch, "
        f"at most {case['beside_torch']['levels_max']:.0f}\n"
        for case in figures["cases"]
        if "beside_torch" in case
    )
    said = "".join(f"{line}\n" for line in refusals(figures))
    tables = (plan_table, network_table, hop_table)
    return "\n".join(
        [*(table(of(figures)) for of in tables[:2]), said + apart, table(hop_table(figures))]
    )


def page(figures: dict[str, Any], about: Circumstances) -> Report:
    """The figures as a page."""

    def block(rows: list[dict[str, Any]]) -> list[Table]:
        return [Table(list(rows[0]), [list(row.values()) for row in rows])] if rows else []

    return Report(
        "TensorRT's plans",
        about,
        [
            Section("Hops", "From numpy to numpy.", block(hop_table(figures))),
            Section("Networks", "Milliseconds of one call.", block(network_table(figures))),
            Section("Plans", "Against onnxruntime's golden outputs.", block(plan_table(figures))),
            Section("Refused", "\n\n".join(refusals(figures)) or "Nothing."),
        ],
        f"{figures['model']} at {figures['resolution']} px, {figures['mode']}, "
        f"{figures['steps']} steps, {figures['codec']} codec.",
    )
