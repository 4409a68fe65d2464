"""Draws a contact sheet of random faces, to look at before a corpus is rendered.

    python -m training.faces.sheet --faces 24 --seed 1 --out faces.png

Each face is one of those that `training.faces.corpus` draws from; with `--mouths` every row
is one face's aligned crop, saying the same nine mouths as the other rows.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from engine.media import F32, U8
from training.faces.expression import Expression
from training.faces.identity import Identity
from training.faces.light import Light
from training.faces.portrait import Framing, PortraitRenderer
from training.faces.pose import Pose
from training.faces.renderer import CropRenderer
from training.faces.tracks import head_motion
from training.mouth import MOUTH_PARAMETERS, rest_mouth

_COLUMNS: Final = 6  # portraits in a row
_PORTRAIT_PIXELS: Final = 320

# At rest; a, e, i, u, f, l, m, s.
_MOUTHS: Final[tuple[dict[str, float], ...]] = (
    {},
    {"opening": 0.9},
    {"opening": 0.45, "width": 0.3},
    {"opening": 0.25, "width": 1.0, "teeth": 0.8},
    {"opening": 0.25, "rounding": 1.0, "width": -1.0},
    {"bite": 1.0},
    {"tongue": 1.0, "opening": 0.22, "teeth": 0.2},
    {"closure": 1.0},
    {"opening": 0.15, "teeth": 1.0, "width": 0.3},
)


def mouth_row(values: dict[str, float]) -> F32:
    """float32 [7]: one row of a mouth track, at rest but for `values`."""
    row = np.asarray(rest_mouth(1)[0])
    for name, value in values.items():
        row[MOUTH_PARAMETERS.index(name)] = value
    return row


def draw_face(rng: np.random.Generator) -> tuple[Identity, Light, Pose]:
    """A random person with an expression, in a random light and pose."""
    identity = Expression.sample(rng).worn_by(Identity.sample(rng))
    return identity, Light.sample(rng), head_motion(1, 1.0, rng)[0]


def portrait_sheet(faces: int, seed: int) -> U8:
    """uint8 RGB: portraits in rows of six, mouths at rest and open by turns."""
    pictures = []
    for index in range(faces):
        identity, light, pose = draw_face(np.random.default_rng((seed, index)))
        renderer = PortraitRenderer.build(identity, light, Framing())
        picture, _ = renderer.render(mouth_row(_MOUTHS[index % 2 * 2]), pose)
        size = (_PORTRAIT_PIXELS, _PORTRAIT_PIXELS)
        pictures.append(np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA)))
    blank = np.zeros_like(pictures[0])
    pictures += [blank] * (-len(pictures) % _COLUMNS)
    rows = [np.hstack(pictures[i : i + _COLUMNS]) for i in range(0, len(pictures), _COLUMNS)]
    return np.asarray(np.vstack(rows), np.uint8)


def mouth_sheet(faces: int, seed: int) -> U8:
    """uint8 RGB [128 faces, 128 * 9, 3]: aligned crops, a face a row, a mouth a column."""
    rows = []
    for index in range(faces):
        identity, light, pose = draw_face(np.random.default_rng((seed, index)))
        renderer = CropRenderer.build(identity, light)
        rows.append(np.hstack([renderer.render(mouth_row(one), pose) for one in _MOUTHS]))
    return np.asarray(np.vstack(rows), np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--faces", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mouths", action="store_true", help="crops and mouths, not portraits")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    draw = mouth_sheet if arguments.mouths else portrait_sheet
    picture = draw(arguments.faces, arguments.seed)
    cv2.imwrite(str(arguments.out), np.ascontiguousarray(picture[..., ::-1]))


if __name__ == "__main__":
    main()
