"""How streamed audio features compare with those of the whole recording, and what they cost.

    python -m benchmarks.audio_features --weights model.bin --out DIR

writes `audio_features.json`, `.html` and `.png`. `benchmarks.whisper_weights` says which weights
it reads and where a package carries some; without any an untrained encoder stands in, whose
figures say nothing about speech. Speech comes from espeak-ng and flite (`benchmarks.spoken`).
What is compared with what: `benchmarks.feature_study`.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.audio_features_report import document_plots, features_report
from benchmarks.feature_study import Likeness, Study
from benchmarks.report import here, save_plots, write_report
from benchmarks.spoken import speech_in_rooms, with_noise
from benchmarks.whisper_weights import load_encoder, rule_encoder
from engine.media import F32, STEP_SAMPLES
from engine.models.whisper import WhisperEncoder
from engine.published import WHISPER_TINY
from engine.spec import AUDIO_STEPS, AudioSpec

POSITIONS: Final = (32, 50, 100, 200, 400)  # 0.64, 1, 2, 4 and 8 s
GUARDS: Final = (0, 2, 4, 8)
TAILS: Final = (0, 4)
MORE_TAILS: Final = (1, 2, 8, 16)  # at the chosen buffer only
LONGEST: Final = max(POSITIONS)
HOP: Final = 4
CHOSEN: Final = WHISPER_TINY
NOISE_DB: Final = -62.0
LATER_S: Final = (1, 5, 10)
Result = dict[str, Any]


def _row(spec: AudioSpec, likeness: Likeness, **more: Any) -> Result:
    return {
        "positions": spec.positions,
        "guard": spec.guard,
        "tail": spec.tail,
        "lookahead_ms": spec.lookahead_samples / 16,
        **more,
        **dataclasses.asdict(likeness),
    }


def study_context(study: Study, count: int) -> list[Result]:
    """Buffer, guard and tail, each window on the rows that the recording gave its steps."""
    ends = study.ends(count, LONGEST)
    rows = []
    sizes = [(positions, tail) for positions in POSITIONS for tail in TAILS]
    for positions, tail in [*sizes, *((CHOSEN.positions, tail) for tail in MORE_TAILS)]:
        spec = replace(CHOSEN, positions=positions, tail=tail, guard=0)
        states = study.streamed(spec, ends, None)
        for guard in GUARDS:
            likeness = study.likeness(spec, ends, states, guard)
            rows.append(_row(replace(spec, guard=guard), likeness))
    return rows


def study_rows(study: Study, count: int) -> list[Result]:
    """Which rows a window has: fixed ones, or those of the recording."""
    ends = study.ends(count, LONGEST)
    spec = replace(CHOSEN, guard=0)
    mel = study.windows(spec, ends)
    last = spec.table_rows - spec.positions
    found = []
    for first in (0, 125, 250, 500, last // 2, 1000, last, None):
        states = study.states(spec, ends, first, mel)
        likeness = study.likeness(spec, ends, states, CHOSEN.guard)
        found.append(_row(CHOSEN, likeness, first_row=first))
    return found


def study_beginning(study: Study, count: int) -> list[Result]:
    """Windows with the table's first rows against a recording that begins where they do.

    Nothing but the future parts them then.
    """
    ends = study.ends(count, LONGEST)
    found = []
    for positions in POSITIONS[1:]:
        spec = replace(CHOSEN, positions=positions, guard=0)
        sound = spec.positions - spec.tail
        states = study.streamed(spec, ends, 0)
        theirs = []
        for end in ends:
            first = (end - sound) * STEP_SAMPLES
            piece = study.samples[first : first + study.block_steps * STEP_SAMPLES]
            theirs.append(study.offline_of(piece)[:sound])
        whole = torch.stack(theirs)
        for guard in GUARDS:
            kept = slice(sound - guard - AUDIO_STEPS, sound - guard)
            likeness = Likeness.of(states[:, kept], whole[:, kept], study.mean)
            found.append(_row(replace(spec, guard=guard), likeness))
    return found


def study_floors(encoder: WhisperEncoder, dry: F32, count: int) -> list[Result]:
    """What a window is floored at, for speech of several levels and with a bang before it.

    The offline features are those of the same sound without the bang.
    """
    bang = np.zeros_like(dry)
    bang[3200:4000] = np.tile(np.repeat(np.array([0.9, -0.9], np.float32), 40), 10)
    quiet = dry * np.float32(0.1)
    sounds = {
        "usual level, noise at -62 dBFS": (with_noise(dry, NOISE_DB), False),
        "usual level, pauses of digital silence": (dry, False),
        "20 dB quieter, noise at -75 dBFS": (with_noise(quiet, -75.0), False),
        "20 dB quieter, digital silence": (quiet, False),
        "usual level, after a bang": (with_noise(dry, NOISE_DB), True),
        "20 dB quieter, after a bang": (with_noise(quiet, -75.0), True),
    }
    floors: dict[str, Result] = {
        "fixed at -5": {"floor": "fixed", "log_floor": -5.0},
        "fixed at -6.5": {"floor": "fixed", "log_floor": -6.5},
        "fixed at -8": {"floor": "fixed", "log_floor": -8.0},
        "running, at least -6.5": {"log_floor": -6.5},
        "running, at least -8": {"log_floor": -8.0},
        "running, at least -10": {"log_floor": -10.0},
        "running, at least -8, never falling": {"floor_fall": 0.0},
    }
    found = []
    for sound, (samples, with_bang) in sounds.items():
        study = Study(encoder, samples)
        ends = study.ends(count, LONGEST)
        played = samples + bang if with_bang else samples
        for name, changes in floors.items():
            spec = replace(CHOSEN, guard=0, **changes)
            states = study.states(spec, ends, None, study.windows(spec, ends, played))
            likeness = study.likeness(spec, ends, states, CHOSEN.guard)
            found.append({"sound": sound, "floor": name, **dataclasses.asdict(likeness)})
    return found


def study_hop(study: Study, count: int) -> list[Result]:
    """One window a hop of four frames against one a frame.

    `likeness` is by frame of the hop, on the recording's rows. `border_ratio` is how far the
    tokens move from frame to frame where two hops meet, over inside a hop, on fixed rows, each
    channel in units of its deviation.
    """
    apart = 2 * HOP
    ends = study.ends(count // 2, LONGEST, apart)
    scale = study.offline.std(0)
    found = []
    for guard in (0, CHOSEN.guard):
        spec = replace(CHOSEN, guard=0)
        last = spec.positions - spec.tail - guard
        behind = [2 * (HOP - 1 - frame) for frame in range(HOP)]

        own = study.streamed(spec, ends, None)
        by_hop = [study.likeness(spec, ends, own, guard + back) for back in behind]
        states = study.streamed(spec, ends, 0)
        tokens = [states[:, last - back - AUDIO_STEPS : last - back] for back in behind]
        found.append(_hop_row("hop", guard, by_hop, tokens, scale))

        by_frame, tokens = [], []
        for back in behind:
            earlier = [end - back for end in ends]
            own = study.streamed(spec, earlier, None)
            by_frame.append(study.likeness(spec, earlier, own, guard))
            states = study.streamed(spec, earlier, 0)
            tokens.append(states[:, last - AUDIO_STEPS : last])
        found.append(_hop_row("frame", guard, by_frame, tokens, scale))
    return found


def _hop_row(
    window: str, guard: int, likenesses: list[Likeness], tokens: list[Tensor], scale: Tensor
) -> Result:
    """`tokens`: by frame of a hop, [windows, steps, states, width], hops in pairs."""

    def moved(after: Tensor, before: Tensor) -> float:
        return float(((after - before) / scale).square().mean(dim=(1, 2, 3)).sqrt().mean())

    inside = [moved(tokens[frame], tokens[frame - 1]) for frame in range(1, HOP)]
    border = moved(tokens[0][1::2], tokens[-1][0::2])
    return {
        "one_window_a": window,
        "guard": guard,
        "border_ratio": round(border / statistics.mean(inside), 3),
        "likeness": [dataclasses.asdict(item) for item in likenesses],
    }


def study_cost(encoder: WhisperEncoder) -> list[Result]:
    """GFLOP counted and milliseconds of one CPU thread a frame, at one window a frame and a hop."""
    found = []
    spec, stack = encoder.spec, encoder.encoder
    for positions in POSITIONS:
        stack.spec = replace(spec, positions=positions, table_positions=spec.table_rows)
        mel = torch.zeros(HOP, spec.n_mels, 2 * positions)
        with FlopCounterMode(display=False) as counter:
            encoder.states(mel)
        frame_ms = _median_ms(encoder, mel) / HOP
        hop_ms = _median_ms(encoder, mel[:1]) / HOP
        found.append(
            {
                "positions": positions,
                "gflop_a_frame": round(counter.get_total_flops() / HOP / 1e9, 3),
                "cpu_ms_a_frame": round(frame_ms, 2),
                "cpu_ms_a_frame_one_window_a_hop": round(hop_ms, 2),
            }
        )
    stack.spec = spec
    return found


def _median_ms(encoder: WhisperEncoder, mel: Tensor, runs: int = 7) -> float:
    spent = []
    for _ in range(runs):
        start = time.process_time()
        encoder.states(mel)
        spent.append(1e3 * (time.process_time() - start))
    return statistics.median(spent[1:])


@torch.inference_mode()
def measure(encoder: WhisperEncoder, seconds: int, count: int) -> Result:
    """All studies.

    Args:
        seconds: of speech.
        count: windows that a study looks at, twice as many where buffer and guard are chosen.
    """
    dry = speech_in_rooms(seconds)
    study = Study(encoder, with_noise(dry, NOISE_DB))
    return {
        "seconds": seconds,
        "windows": count,
        "chosen": dataclasses.asdict(CHOSEN),
        "begun_later": [
            {"seconds": later, **dataclasses.asdict(study.begun_later(later))} for later in LATER_S
        ],
        "context": study_context(study, 2 * count),
        "rows": study_rows(study, count),
        "beginning": study_beginning(study, max(count // 6, 2)),
        "floors": study_floors(encoder, dry[: len(dry) // 2], max(count // 2, 2)),
        "hop": study_hop(study, count),
        "cost": study_cost(encoder),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 once the result is written."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.audio_features",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder for the results")
    parser.add_argument("--weights", type=Path, help="Whisper-tiny: .pt, .safetensors or .bin")
    parser.add_argument("--weights-name", help="what to call them in the report")
    parser.add_argument("--seconds", type=int, default=80, help="of speech (80)")
    parser.add_argument("--windows", type=int, default=60, help="a study looks at (60)")
    given = sys.argv[1:] if arguments is None else list(arguments)
    parsed = parser.parse_args(given)
    torch.set_num_threads(1)
    if parsed.weights is None:
        encoder, name = rule_encoder(AudioSpec(positions=1500)), "untrained: weights of a rule"
    else:
        encoder = load_encoder(parsed.weights)
        name = parsed.weights_name or parsed.weights.name
    circumstances = here("python -m benchmarks.audio_features", given, "one thread, float32")
    start = time.process_time()
    studied = measure(encoder, parsed.seconds, parsed.windows)
    result: Result = {
        **circumstances.to_dict(),
        "weights": name,
        "cpu_s": round(time.process_time() - start, 1),
        **studied,
    }
    report = features_report(result, circumstances)
    for path in write_report(parsed.out, "audio_features", result, report):
        sys.stdout.write(f"{path}\n")
    plots = parsed.out / "audio_features.png"
    save_plots(plots, document_plots(result))
    sys.stdout.write(f"{plots}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
