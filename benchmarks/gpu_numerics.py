"""Entry 3 of the GPU runs: number formats against f32, window modes against each other.

    python -m benchmarks.gpu_numerics --out out                     # on a GPU
    python -m benchmarks.gpu_numerics --out out --size tiny         # on a CPU, to test it
    python -m benchmarks.gpu_numerics --out out --model latentsync-1.5

Every component and the whole hop in bf16, f16 and scaled fp8; carry against pinned and disjoint;
and the cosine of carried keys and values to recomputed ones over the hops since a refresh, which
says what `refresh_hops` should be. With synthetic weights the formats' errors are those of such
networks and the modes' distances show that the machinery works; with `--model` they are the
model's.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu_command import begin, common_parser
from benchmarks.measure import (
    Deadline,
    Figures,
    device_name,
    has_fp8,
    table,
)
from benchmarks.mode_distances import Clip, KeyAge, key_ages, mode_distances
from benchmarks.precisions import PRECISIONS, Distance, components, in_precision
from benchmarks.report import LinePlot, Report, Section, Series, Table, here, write_report
from benchmarks.synthetic import model_of, spec_of, way_of
from engine.backends.base import HopInput
from engine.backends.torch_backend import TorchBackend
from engine.checkpoints import resolve_model
from engine.denoise.model import TorchModel
from engine.spec import ModelSpec

logger = logging.getLogger(__name__)

SHOWN_AGES = (1, 2, 4, 8, 16, 24, 32, 48, 64)
REFRESHES = (4, 8, 16)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, writes gpu_numerics.json and its page, prints tables; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser().parse_args(given)
    device, deadline = begin(options)
    if options.model is None:
        base = spec_of(options.size, options.resolution, options.codec)
        model = model_of(options.size, base, device, "f32")
    else:
        folder = resolve_model(options.model)
        base, model = ModelSpec.read(folder), TorchModel.load(folder, device, "f32")
    way = way_of(base, mode="carry", steps=options.steps, hop=options.hop)
    about = here(
        "python -m benchmarks.gpu_numerics", given, f"{device_name(device)}, f32 as the reference"
    )
    figures = Figures(
        options.out,
        "gpu_numerics",
        about,
        device,
        model=base.name,
        resolution=base.resolution,
        precision="f32 as the reference",
        batch=1,
        fp8="the device's products" if has_fp8(device) else "emulated by casts",
    )
    clip = Clip.random(base, options.frames)
    figures.put(components=_compare_precisions(model, way, clip, options, deadline))
    ways = _ways(way)
    if deadline.allows("modes"):
        figures.put(modes=mode_distances(model, ways, clip))
    ages: list[KeyAge] = []
    if deadline.allows("key ages"):
        ages = key_ages(model, way, Clip.random(base, options.hop * (options.hops + 1), seed=9))
        figures.put(key_ages=[asdict(age) for age in ages])
    figures.put(skipped=deadline.skipped)
    write_report(options.out, "gpu_numerics", figures.data, _page(figures.data, ages, about))
    sys.stdout.write(_summary(figures.data))
    finite = all(row["finite"] for row in figures.data["components"] if row["precision"] == "bf16")
    return 0 if finite else 1


def _parser() -> argparse.ArgumentParser:
    parser = common_parser(
        "gpu_numerics",
        "Number formats against f32, window modes against each other.",
        "--out out --size tiny",
        codec="picture codec (the size's own: kl)",
    )
    add = parser.add_argument
    add("--model", help="name or folder of a model with weights, instead of a size")
    add("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    add("--steps", type=int, default=2, help="denoising steps (2)")
    add("--hop", type=int, default=4, help="new frames a call (4)")
    add("--hops", type=int, default=32, help="hops without a refresh, for the keys' age (32)")
    add("--frames", type=int, default=96, help="of the clip that modes are compared on (96)")
    return parser


def _ways(way: ModelSpec) -> dict[str, ModelSpec]:
    """The modes to compare; disjoint in windows of 16 frames, as upstream has them."""
    window = way.window_frames
    return {
        "carry": way,
        **{f"carry/{every}": dataclasses.replace(way, refresh_hops=every) for every in REFRESHES},
        "pinned": dataclasses.replace(way, carry="pinned"),
        "disjoint": dataclasses.replace(way, carry="disjoint", hop_frames=window),
    }


@torch.inference_mode()
def _compare_precisions(
    model: TorchModel,
    way: ModelSpec,
    clip: Clip,
    options: argparse.Namespace,
    deadline: Deadline,
) -> list[dict[str, object]]:
    parts = components(way, model.device, options.hop)
    wanted = {name: part(model) for name, part in parts.items()}
    wanted |= _whole_hop(model, way, clip)
    rows: list[dict[str, object]] = []
    for precision in options.precisions:
        if not deadline.allows(f"precision {precision}"):
            continue
        other = in_precision(model, precision)
        made = {name: part(other) for name, part in parts.items()}
        made |= _whole_hop(other, way, clip)
        for name, want in wanted.items():
            distance = Distance.of(made[name], want)
            rows.append({"component": name, "precision": precision, **asdict(distance)})
        logger.info("%s compared", precision)
    return rows


def _whole_hop(model: TorchModel, way: ModelSpec, clip: Clip) -> dict[str, Tensor]:
    """A hop in the steady state: its clean latents, and its pictures in levels."""
    backend = TorchBackend(model, way, buckets=(1,), graphs=False)
    sessions = [backend.new_session(hop_frames=way.hop_frames, seed=0) for _ in range(2)]
    latents = pictures = np.zeros(0, np.float32)
    for start in range(0, way.window_frames + 1 - way.hop_frames, way.hop_frames):
        cut = slice(start, start + way.hop_frames)
        items = [
            HopInput(session, clip.mel[cut], clip.masked[cut], clip.reference[cut])
            for session in sessions
        ]
        latents = backend.denoise(items[:1])[0].latents
        pictures = backend.run_hop(items[1:])[0].crops.astype(np.float32)
    return {
        "whole hop, latents": torch.from_numpy(latents),
        "whole hop, pictures": torch.from_numpy(pictures),
    }


def _short(value: object) -> object:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _component_rows(figures: Mapping[str, Any]) -> list[dict[str, object]]:
    """A row a component, two columns a precision."""
    rows: dict[str, dict[str, object]] = {}
    for item in figures["components"]:
        row = rows.setdefault(item["component"], {"component": item["component"]})
        row[f"{item['precision']} relative"] = _short(item["relative"])
        row[f"{item['precision']} largest"] = _short(item["largest"])
        row[f"{item['precision']} dB"] = _short(item["psnr_db"])
    return list(rows.values())


def _age_rows(figures: Mapping[str, Any]) -> list[dict[str, object]]:
    return [
        {
            "hops carried": age["hops"],
            "keys": round(age["keys"], 5),
            "worst layer": round(age["keys_worst"], 5),
            "values": round(age["values"], 5),
            "worst layer's values": round(age["values_worst"], 5),
            "new latents": _short(age["latents"]),
        }
        for age in figures.get("key_ages", ())
        if age["hops"] in SHOWN_AGES
    ]


def _mode_rows(figures: Mapping[str, Any]) -> list[dict[str, object]]:
    return [
        {key: _short(value) for key, value in row.items() if "to carry/" not in key}
        for row in figures.get("modes", ())
    ]


def _summary(figures: Mapping[str, Any]) -> str:
    modes = _mode_rows(figures)
    head: dict[str, None] = {key: None for row in modes for key in row}
    return "\n".join(
        (
            f"against f32 (fp8: {figures['fp8']}):",
            table(_component_rows(figures)),
            "relative distance of clean latents between the modes:",
            table([{key: row.get(key) for key in head} for row in modes]),
            "cosine of carried context to a refresh's:",
            table(_age_rows(figures)),
            *(f"no time for: {what}\n" for what in figures["skipped"]),
        )
    )


def _page(figures: Mapping[str, Any], ages: Sequence[KeyAge], about: Any) -> Report:
    def block(rows: Sequence[Mapping[str, Any]]) -> Table:
        head: dict[str, None] = {key: None for row in rows for key in row}
        return Table(list(head), [[row.get(key) for key in head] for row in rows])

    hops = [float(age.hops) for age in ages]
    lines = [
        Series("keys", hops, [age.keys for age in ages]),
        Series("keys, worst layer", hops, [age.keys_worst for age in ages]),
        Series("values", hops, [age.values for age in ages]),
        Series("values, worst layer", hops, [age.values_worst for age in ages]),
    ]
    plot = LinePlot("Carried against recomputed", "hops since a refresh", "cosine", lines)
    return Report(
        "Numerics",
        about,
        [
            Section("Number formats", "Against f32.", [block(figures["components"])]),
            Section(
                "Window modes",
                "Relative distance of clean latents; boundary-free leaves out the first and last "
                "frame of every hop.",
                [block(figures.get("modes", ()))],
            ),
            Section("Age of carried context", "", [plot, block(_age_rows(figures))]),
        ],
        f"{figures['model']} at {figures['resolution']} px; fp8: {figures['fp8']}.",
    )


if __name__ == "__main__":
    sys.exit(main())
