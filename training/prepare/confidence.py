"""What a judge's confidence is worth: clips with their own sound, and with each other's.

    python -m training.prepare.confidence --clips DIR --sync expert

Says from which confidence on sound fits, for `--min-confidence`: take clips that were prepared
with `--min-confidence 0` and are known to be in sync.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import av
import numpy as np

from engine.errors import ConfigError, LipwireError
from engine.media import F32, FRAME_SAMPLES, U8
from training.prepare.judges import judge_plan
from training.prepare.listing import CLIPS_FILE
from training.prepare.sync import MARGIN_FRAMES, SyncJudge

_PERCENT: Final = (0, 5, 10, 50, 90, 95, 100)


@dataclass(frozen=True, slots=True)
class Shown:
    """A clip without its ends, whose sound is the margin that judges want.

    Attributes:
        crops: RGB [n, R, R, 3].
        samples: 16 kHz [(n + 2 * MARGIN_FRAMES) * 640].
    """

    crops: U8
    samples: F32


def read_clips(folder: Path) -> list[Shown]:
    """The clips of a prepared folder that are long enough.

    Raises:
        ConfigError: it holds no listing.
    """
    path = folder / CLIPS_FILE
    if not path.is_file():
        raise ConfigError(f"expected {CLIPS_FILE} in {folder}, found none")
    lines = path.read_text(encoding="utf-8").splitlines()
    found = [_read(folder / json.loads(line)["file"]) for line in lines]
    return [shown for shown in found if len(shown.crops) > 0]


def _read(path: Path) -> Shown:
    with av.open(str(path)) as container:
        crops = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        pieces = [frame.to_ndarray().ravel() for frame in container.decode(audio=0)]
    samples = np.concatenate(pieces).astype(np.float32) / 32767.0
    inner = np.stack(crops)[MARGIN_FRAMES : max(len(crops) - MARGIN_FRAMES, MARGIN_FRAMES)]
    return Shown(np.asarray(inner, np.uint8), samples)


def own_and_others(judge: SyncJudge, clips: Sequence[Shown]) -> tuple[list[float], list[float]]:
    """Confidences in clips with their own sound, and with the sound of other clips."""
    own: list[float] = []
    others: list[float] = []
    for shown in clips:
        for heard in clips:
            samples = heard.samples
            frames = min(len(shown.crops), len(samples) // FRAME_SAMPLES - 2 * MARGIN_FRAMES)
            end = (frames + 2 * MARGIN_FRAMES) * FRAME_SAMPLES
            curve = judge.curve(shown.crops[:frames], samples[:end])
            if curve is not None:
                (own if heard is shown else others).append(curve.confidence(0))
    return own, others


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints percentiles of both; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.prepare.confidence",
        description="What a sync judge's confidence is worth on clips that are in sync.",
    )
    parser.add_argument("--clips", type=Path, required=True, help="a folder that was prepared")
    parser.add_argument("--sync", default="expert", metavar="JUDGE", help="as in preparation")
    parser.add_argument("--most", type=int, default=20, help="clips to be looked at (20)")
    options = parser.parse_args(arguments)
    try:
        plan = judge_plan(options.sync)
        if plan is None:
            raise ConfigError("expected a judge of sync, got none")
        clips = read_clips(options.clips)[: options.most]
        own, others = own_and_others(plan.open(), clips)
        if not own or not others:
            raise ConfigError(f"expected two clips that are long enough, got {len(own)}")
    except (LipwireError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print("percentile   " + "".join(f"{percent:>8}" for percent in _PERCENT))  # noqa: T201
    for name, values in (("own sound", own), ("other sound", others)):
        cells = "".join(f"{value:>8.3f}" for value in np.percentile(values, _PERCENT))
        print(f"{name:<13}{cells}")  # noqa: T201
    area = float(np.mean(np.array(own)[:, None] > np.array(others)))
    print(f"own above other: {area:.1%} of pairs")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
