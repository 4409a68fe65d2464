"""The page and the plots of `benchmarks.audio_features`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from benchmarks.report import BarPlot, Circumstances, LinePlot, Report, Section, Series, Table

Result = dict[str, Any]
POSITION_S: Final = 0.02
CENTRED: Final = "cosine, centred"


def document_plots(result: Result) -> list[LinePlot | BarPlot]:
    """The four plots that the documents show."""
    return [_buffer_plot(result), _guard_plot(result), _hop_plot(result), _cost_plot(result)]


def features_report(result: Result, circumstances: Circumstances) -> Report:
    """The page."""
    chosen = result["chosen"]
    summary = (
        f"Weights: {result['weights']}. Chosen: {chosen['positions']} positions "
        f"({chosen['positions'] * POSITION_S:g} s), a guard of {chosen['guard']}, a tail of "
        f"{chosen['tail']}, a {chosen['floor']} floor of at least {chosen['log_floor']:g}."
    )
    return Report(
        "Streamed audio features",
        circumstances,
        [
            Section(
                "Context",
                "Windows on the rows that the recording gave their steps: what is lost for want "
                "of past and future alone. The dashed line is what the published features "
                "themselves vary by when the recording begins five seconds later.",
                [
                    _buffer_plot(result),
                    _guard_plot(result),
                    _likenesses(
                        result["context"], ("positions", "guard", "tail", "lookahead_ms"), "context"
                    ),
                    _likenesses(result["begun_later"], ("seconds",), "recording begun later"),
                ],
            ),
            Section(
                "Place",
                "A window always on the same rows of the position table, from `first_row` on; "
                "none: on the recording's.",
                [
                    _likenesses(result["rows"], ("first_row",), "rows"),
                    _likenesses(
                        result["beginning"],
                        ("positions", "guard", "tail"),
                        "against a recording that begins with the window",
                    ),
                ],
            ),
            Section("Floor", "", [_likenesses(result["floors"], ("sound", "floor"), "floors")]),
            Section(
                "One window a hop",
                "All frames of a hop from the window that its last frame needs.",
                [
                    _hop_plot(result),
                    Table(
                        ("one window a", "guard", "border ratio of the tokens' movement"),
                        [
                            (row["one_window_a"], row["guard"], row["border_ratio"])
                            for row in result["hop"]
                        ],
                    ),
                ],
            ),
            Section(
                "Cost",
                "",
                [
                    _cost_plot(result),
                    Table(
                        tuple(key.replace("_", " ") for key in result["cost"][0]),
                        [tuple(row.values()) for row in result["cost"]],
                    ),
                ],
            ),
        ],
        summary,
    )


def _likenesses(rows: Sequence[Result], keys: Sequence[str], caption: str) -> Table:
    states = range(len(rows[0]["raw"]))
    columns = [key.replace("_", " ") for key in keys]
    columns += [f"{kind} {state}" for kind in ("raw", "centred") for state in states]
    cells = [[*(row[key] for key in keys), *row["raw"], *row["centred"]] for row in rows]
    return Table(columns, cells, caption)


def _context(result: Result, **wanted: int) -> Iterable[Result]:
    for row in result["context"]:
        if all(row[key] == value for key, value in wanted.items()):
            yield row


def _varies_by(result: Result, state: int) -> float:
    """The centred cosine of a state in a recording that begins five seconds later."""
    (value,) = (row["centred"][state] for row in result["begun_later"] if row["seconds"] == 5)
    return float(value)


def _buffer_plot(result: Result) -> LinePlot:
    chosen = result["chosen"]
    rows = list(_context(result, guard=chosen["guard"], tail=chosen["tail"]))
    last = len(rows[0]["centred"]) - 1
    return LinePlot(
        f"Buffer, at a guard of {20 * chosen['guard']} ms",
        "buffer, s",
        CENTRED,
        [
            Series(
                f"state {state}",
                [row["positions"] * POSITION_S for row in rows],
                [row["centred"][state] for row in rows],
            )
            for state in range(last + 1)
        ],
        target=_varies_by(result, last),
        target_label=f"state {last}, begun 5 s later",
        log_x=True,
    )


def _guard_plot(result: Result) -> LinePlot:
    chosen = result["chosen"]
    last = len(result["context"][0]["centred"]) - 1
    series = []
    for state in (last // 2, last):
        for tail in (0, chosen["tail"]):
            rows = list(_context(result, positions=chosen["positions"], tail=tail))
            series.append(
                Series(
                    f"state {state}, {f'tail of {tail}' if tail else 'no tail'}",
                    [20.0 * row["guard"] for row in rows],
                    [row["centred"][state] for row in rows],
                )
            )
    return LinePlot(
        f"Guard, at a buffer of {chosen['positions'] * POSITION_S:g} s",
        "look-ahead that the guard adds, ms",
        CENTRED,
        series,
        target=_varies_by(result, last),
        target_label=f"state {last}, begun 5 s later",
    )


def _hop_plot(result: Result) -> BarPlot:
    last = len(result["hop"][0]["likeness"][0]["centred"]) - 1
    return BarPlot(
        "A window a frame or one a hop of four, by frame of the hop",
        f"{CENTRED}, state {last}",
        [f"frame {frame + 1}" for frame in range(len(result["hop"][0]["likeness"]))],
        {
            f"a {row['one_window_a']}, guard of {20 * row['guard']} ms": [
                likeness["centred"][last] for likeness in row["likeness"]
            ]
            for row in result["hop"]
        },
        base=min(
            int(20 * likeness["centred"][last]) / 20
            for row in result["hop"]
            for likeness in row["likeness"]
        ),
    )


def _cost_plot(result: Result) -> BarPlot:
    rows = result["cost"]
    return BarPlot(
        "Cost by buffer; below it GFLOP a frame at a window a frame",
        "ms a frame, one CPU thread",
        [f"{row['positions'] * POSITION_S:g} s\n{row['gflop_a_frame']:.1f}" for row in rows],
        {
            "a window a frame": [row["cpu_ms_a_frame"] for row in rows],
            "a window a hop of four": [row["cpu_ms_a_frame_one_window_a_hop"] for row in rows],
        },
    )
