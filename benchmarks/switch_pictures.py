"""What a change of backend does to the pictures of a stream, held against streams without one.

    drawn = draw_switches("anna", seconds=12.0, every=20)

One avatar says one speech three times: on the first backend, on the second, and on both in turn, by
the `SwitchingBackend` that a server serves on. What the eye would see as a jump is a change from
one picture to the next that is larger where the backend changed than the same change without.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality.material import load_speeches
from engine.avatar import AvatarSource, PreparedAvatar, load_avatar, loop_index, prepare_avatar
from engine.backends.base import Backend
from engine.backends.select import open_backend
from engine.backends.switching import TRIAL_HOPS, SwitchingBackend
from engine.checkpoints import resolve_model
from engine.media import F32, FPS, FRAME_SAMPLES, U8
from engine.scheduler import Scheduler
from engine.stream import Stream, StreamOptions
from server.config import BUNDLED_AVATARS

PEAK = 255.0
ALIKE_DB = 100.0
MOVED_LEVELS = 2  # above what an encoder or a rounding does: here is the mouth


@dataclass(frozen=True, slots=True)
class Switches:
    """Pictures with and without changes of backend, mouths only, brightness, uint8 [n, h, w].

    Attributes:
        first, second: on one backend each.
        switched: on both in turn.
        places: frames that are the first one on the other backend, in `switched`.
        names: of the two backends.
    """

    first: U8
    second: U8
    switched: U8
    places: list[int]
    names: tuple[str, str]

    def steps(self, pictures: U8) -> NDArray[np.float64]:
        """Change of the mouth to each picture from the one before it, in mean levels, [n - 1]."""
        wide = pictures.astype(np.int16)
        return np.asarray(np.abs(np.diff(wide, axis=0)).mean(axis=(1, 2)), np.float64)

    def excess(self) -> NDArray[np.float64]:
        """Of each change at a place, in levels above that of the streams which never changed.

        Both of those say how much the face itself moved there; their mean is taken.
        """
        at = np.array(self.places) - 1
        own = (self.steps(self.first)[at] + self.steps(self.second)[at]) / 2
        return np.asarray(self.steps(self.switched)[at] - own)

    def psnr_db(self) -> NDArray[np.float64]:
        """Of each picture with changes, against the backend that should have drawn it, [n].

        `ALIKE_DB` where they are the same.
        """
        squared = (self.switched.astype(np.float64) - self._expected()) ** 2
        mean = squared.mean(axis=(1, 2))
        with np.errstate(divide="ignore"):
            return np.asarray(np.minimum(10 * np.log10(PEAK**2 / mean), ALIKE_DB))

    def worst_levels(self) -> int:
        """Largest difference of any of its mouth's pixels from that backend."""
        return int(np.abs(self.switched.astype(np.int16) - self._expected()).max())

    def _expected(self) -> NDArray[np.int16]:
        expected = self.first.astype(np.int16)
        for start, end in zip(self.places[::2], [*self.places[1::2], None], strict=False):
            expected[start:end] = self.second[start:end]
        return expected


def draw_switches(
    avatar: str,
    *,
    seconds: float,
    every: int,
    hop_frames: int,
    model: str = "bundled",
    names: tuple[str, str] = ("onnxruntime", "openvino"),
) -> Switches:
    """Draws an avatar on two backends and on both in turn.

    Args:
        every: hops between two changes, more than a backend's trial takes.
    """
    if every <= TRIAL_HOPS:
        raise ValueError(f"expected more than {TRIAL_HOPS} hops between changes, got {every}")
    folder = resolve_model(model)
    first, second = (open_backend(folder, name) for name in names)
    loaded = load_avatar(BUNDLED_AVATARS / avatar)
    prepared = prepare_avatar(loaded, first)
    speech = _speech(int(seconds * FPS))
    places: list[int] = []
    switching = SwitchingBackend(first)

    def change(hop: int, frame: int) -> None:
        if hop >= (len(places) + 1) * every and not switching.switching:
            switching.switch_to(second if len(places) % 2 == 0 else first)
            places.append(frame)

    drawn = [
        _drawn(backend, prepared, speech, hop_frames, at_hop)
        for backend, at_hop in ((first, None), (second, None), (switching, change))
    ]
    count = min(len(pictures) for pictures in drawn)
    source = np.stack(
        [
            _luma(loaded.pictures[loop_index(index, len(loaded.pictures), loaded.loop)].i420)
            for index in range(count)
        ]
    )
    rows, columns = _moved(drawn[0][:count], source)
    mouths = [pictures[:count, rows, columns] for pictures in drawn]
    shown = [place for place in places if place < count]
    return Switches(mouths[0], mouths[1], mouths[2], shown, (first.name, second.name))


def _drawn(
    backend: Backend,
    prepared: PreparedAvatar,
    speech: F32,
    hop_frames: int,
    at_hop: Callable[[int, int], None] | None,
) -> U8:
    """Brightness of all pictures of one stream, uint8 [n, H, W].

    Args:
        at_hop: called before each hop of the network with its number and first frame.
    """
    stream = Stream(backend, AvatarSource(prepared), StreamOptions(hop_frames=hop_frames, seed=1))
    scheduler = Scheduler(backend)
    scheduler.add(stream)
    pictures: list[U8] = []
    hop = 0
    for start in range(0, len(speech), FRAME_SAMPLES):
        stream.push_audio(speech[start : start + FRAME_SAMPLES])
        while (plan := stream.due()) is not None:
            if at_hop is not None:
                at_hop(hop, plan.new.start)
            hop += 1
            for output in scheduler.run_due():
                if output.error is not None:
                    raise output.error
                pictures += [_luma(frame.picture.i420) for frame in output.frames]
    return np.stack(pictures)


def _speech(frames: int) -> F32:
    """Speech that no training has heard, again and again."""
    samples = np.concatenate([speech.samples for speech in load_speeches()])
    return np.resize(samples, frames * FRAME_SAMPLES)


def _luma(i420: U8) -> U8:
    return i420[: i420.shape[0] * 2 // 3].copy()


def _moved(pictures: U8, source: U8) -> tuple[slice, slice]:
    """Rows and columns of the pictures in which a mouth was generated."""
    apart = np.zeros(pictures.shape[1:], bool)
    for drawn, shown in zip(pictures, source, strict=True):
        apart |= np.abs(drawn.astype(np.int16) - shown) > MOVED_LEVELS
    rows, columns = np.flatnonzero(apart.any(axis=1)), np.flatnonzero(apart.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
