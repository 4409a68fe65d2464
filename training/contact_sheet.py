"""A picture of a corpus: who is in it, and what a few of them say.

    python -m training.contact_sheet --corpus DIR --out sheet.png

Above, one frame of many faces, from young (left) to old and from light skin
(top) to dark; pose, light and expression are as drawn. Below, clips: frames in
time, the mouth that they were drawn with, and the speech's log-mel spectrogram
on the same time axis. Grey bars are shut lips.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from engine.audio.log_mel import log10_mel
from engine.media import F32, FRAME_SAMPLES, U8
from training.faces.identity import Identity
from training.mouth import CLOSURE, OPENING, ROUNDING, WIDTH

_COLUMNS: Final = 13
_ROWS: Final = 4
_TALKING: Final = 6
_STRIP_FRAMES: Final = 8
_TILE: Final = 128  # pixels
_PLOT_WIDTH: Final = 320
_MEL_BINS: Final = 80
_MARGIN: Final = 4
_FAINT_LOG_POWER: Final = -2.0  # sound without anything louder is drawn dark
_LINES: Final = ((OPENING, (220, 60, 40)), (WIDTH, (30, 120, 40)), (ROUNDING, (40, 60, 220)))
_INK: Final = (40, 40, 40)


@dataclass(frozen=True, slots=True)
class _Clip:
    folder: Path
    number: str
    first: int
    frames: int
    identity: int
    speech: str
    start_frame: int

    def crops(self) -> U8:
        """uint8 [frames, R, R, 3]."""
        stored = np.load(self.folder / f"crops_{self.number}.npy", mmap_mode="r")
        return np.asarray(stored[self.first : self.first + self.frames])

    def mouth(self) -> F32:
        """float32 [frames, 7]."""
        stored = np.load(self.folder / f"mouth_{self.number}.npy", mmap_mode="r")
        return np.asarray(stored[self.first : self.first + self.frames])

    def face(self) -> Identity:
        return Identity.sample(np.random.default_rng(self.identity))


def _clips(faces: Path) -> list[_Clip]:
    clips = []
    for path in sorted(faces.glob("crops_*.json")):
        number = path.stem.removeprefix("crops_")
        for entry in json.loads(path.read_text(encoding="utf-8")):
            fields = {key: entry[key] for key in _Clip.__slots__ if key in entry}
            clips.append(_Clip(faces, number, **fields))
    return clips


def _spread(count: int, of: list[_Clip]) -> list[_Clip]:
    """`count` clips from all over the list, each once."""
    places = np.linspace(0, len(of) - 1, min(count, len(of))).astype(int)
    return [of[place] for place in places]


def _crowd(clips: list[_Clip]) -> list[U8]:
    """Faces by skin (rows) and age (columns): up to 4 rows, uint8 [128, up to 13 * 128, 3]."""
    chosen = _spread(_COLUMNS * _ROWS, clips)
    by_skin = sorted(chosen, key=lambda clip: -sum(clip.face().skin))
    columns = -(-len(by_skin) // _ROWS)
    rows = []
    for first in range(0, len(by_skin), columns):
        aged = sorted(by_skin[first : first + columns], key=lambda clip: clip.face().age)
        rows.append(np.concatenate([_tile(clip.crops()[clip.frames // 2]) for clip in aged], 1))
    return rows


def _tile(crop: U8) -> U8:
    resized = cv2.resize(crop, (_TILE, _TILE), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def mouth_plot(mouth: F32) -> U8:
    """uint8 [128, 320, 3]: opening red, width green, rounding blue, shut lips grey."""
    plot = np.full((_TILE, _PLOT_WIDTH, 3), 250, np.uint8)
    edges = np.linspace(0, _PLOT_WIDTH, len(mouth) + 1).astype(int)
    for frame, closure in enumerate(mouth[:, CLOSURE]):
        plot[:, edges[frame] : edges[frame + 1]] -= np.uint8(110 * closure)
    middles = (edges[:-1] + edges[1:]) // 2
    for parameter, colour in _LINES:
        heights = (0.5 - 0.47 * mouth[:, parameter]) * _TILE
        points = np.stack([middles, heights.astype(int)], axis=1)
        cv2.polylines(plot, [points.astype(np.int32)], False, colour, 1, cv2.LINE_AA)
    return plot


def spectrogram(samples: F32) -> U8:
    """uint8 [128, 320, 3]: log-mel power, low frequencies below, the loudest white."""
    if len(samples) == 0:
        return np.full((_TILE, _PLOT_WIDTH, 3), 250, np.uint8)
    power = log10_mel(np.pad(samples, 200), _MEL_BINS)[::-1]
    loudest = max(float(power.max()), _FAINT_LOG_POWER)
    shade = np.clip((power - loudest + 6.0) / 6.0, 0.0, 1.0)
    grey = cv2.resize(shade.astype(np.float32), (_PLOT_WIDTH, _TILE))
    return np.repeat(np.asarray(grey * 255, np.uint8)[:, :, None], 3, axis=2)


def _said(speech: Path, clip: _Clip) -> tuple[F32, str]:
    """The samples under a clip, and who speaks; neither for a clip without sound."""
    if not clip.speech:
        return np.zeros(0, np.float32), "no sound"
    split, index = clip.speech.split("/")
    entry: dict[str, Any] = json.loads((speech / split / "clips.json").read_text())[int(index)]
    audio = np.load(speech / split / "audio.npy", mmap_mode="r")
    first = (entry["start"] + clip.start_frame) * FRAME_SAMPLES
    samples = audio[first : first + clip.frames * FRAME_SAMPLES]
    return np.asarray(samples, np.float32) / 32767.0, f"{clip.speech} {entry['voice']}"


def _talking(speech: Path, clip: _Clip) -> U8:
    """One row: frames in time, the mouth and the spectrogram."""
    samples, who = _said(speech, clip)
    crops = clip.crops()
    times = np.linspace(0, clip.frames - 1, _STRIP_FRAMES).astype(int)
    plot = mouth_plot(clip.mouth())
    label = f"{who}, age {20 + 50 * clip.face().age:.0f}"
    cv2.putText(plot, label, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.36, _INK, 1, cv2.LINE_AA)
    return np.concatenate([*(_tile(crops[time]) for time in times), plot, spectrogram(samples)], 1)


def draw_sheet(corpus: Path, path: Path) -> None:
    """Writes the contact sheet of the corpus to `path`.

    Raises:
        ValueError: the corpus has no faces, or the picture cannot be written.
    """
    clips = _clips(corpus / "faces")
    if not clips:
        raise ValueError(f"expected faces in {corpus / 'faces'}")
    with_sound = [clip for clip in clips if clip.speech] or clips
    parts = _crowd(clips)
    parts += [_talking(corpus / "speech", clip) for clip in _spread(_TALKING, with_sound)]
    width = max(part.shape[1] for part in parts)
    sheet = np.concatenate(
        [
            np.pad(
                part,
                ((0, _MARGIN), (0, width - part.shape[1]), (0, 0)),
                constant_values=255,
            )
            for part in parts
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
        raise ValueError(f"cannot write a picture to {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a contact sheet of a corpus.")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of training.synth")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    draw_sheet(arguments.corpus, arguments.out)


if __name__ == "__main__":
    main()
