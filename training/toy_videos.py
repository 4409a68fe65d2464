"""Makes a folder of small videos of drawn people who talk, to try fine-tuning's tools on.

    python -m training.toy_videos --out .scratch/videos --people 4 --seconds 8

A folder a person with one good video each, and in `trouble/` what folders of real videos have:
a broken file, one without sound, two people, cuts, 30 frames a second, a phone's turned and
uneven pictures, a lens out of focus, sound that is late or somebody else's. flite speaks.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import numpy as np
from av.audio.stream import AudioStream

from engine.media import F32, FPS, FRAME_SAMPLES, SAMPLE_RATE_HZ, U8
from training.faces.eyes import Gaze
from training.faces.identity import Identity
from training.faces.light import Light
from training.faces.portrait import Framing, PortraitRenderer
from training.faces.tracks import head_motion
from training.speech.augment import level_speech
from training.speech.clips import join_utterances
from training.speech.engines import speak
from training.speech.sentences import sentence
from training.speech.utterance import Delivery, Utterance, Voice
from training.speech.visemes import MouthStyle, mouth_track

LATE_FRAMES: Final = 4  # that the sound of trouble/late_sound.mp4 comes after its pictures
_SIDE: Final = 384  # pixels of a picture
_VOICES: Final = ("rms", "awb", "kal16")
_PIECE_SAMPLES: Final = 1024
_CLOCK: Final = Fraction(1, 90_000)


@dataclass(frozen=True, slots=True)
class Track:
    """How a video's sound is stored.

    Attributes:
        start_s: on the pictures' clock.
    """

    rate_hz: int = SAMPLE_RATE_HZ
    channels: int = 1
    codec: str = "aac"
    start_s: float = 0.0


def write_video(
    path: Path,
    pictures: Sequence[U8],
    times: Sequence[Fraction],
    samples: F32 | None,
    track: Track | None = None,
) -> Path:
    """Writes RGB pictures at their times (seconds), and 16 kHz sound unless it is None.

    Returns:
        The path.
    """
    track = track or Track()
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(1, times[1] - times[0]))
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv420p"
        video.time_base = video.codec_context.time_base = _CLOCK
        video.options = {"crf": "16", "preset": "veryfast", "threads": "1"}
        sound: AudioStream | None = None
        if samples is not None:
            layout = "mono" if track.channels == 1 else "stereo"
            added = container.add_stream(track.codec, rate=track.rate_hz, layout=layout)
            assert isinstance(added, AudioStream)
            sound = added
        for picture, time in zip(pictures, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(time / _CLOCK), _CLOCK
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and samples is not None:
            for piece in _resampled(samples, track, sound.format.name):
                container.mux(sound.encode(piece))
            container.mux(sound.encode(None))
    return path


def _resampled(samples: F32, track: Track, kind: str) -> list[av.AudioFrame]:
    layout = "mono" if track.channels == 1 else "stereo"
    resampler = av.AudioResampler(format=kind, layout=layout, rate=track.rate_hz)
    frames: list[av.AudioFrame] = []
    for first in range(0, len(samples), _PIECE_SAMPLES):
        piece = np.ascontiguousarray(samples[None, first : first + _PIECE_SAMPLES])
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        frames += resampler.resample(frame)
    frames += resampler.resample(None)
    place = round(track.start_s * track.rate_hz)
    for frame in frames:
        frame.pts, frame.time_base = place, Fraction(1, track.rate_hz)
        place += frame.samples
    return frames


def steady(frames: int, rate: int = FPS) -> list[Fraction]:
    """Times of pictures that come evenly."""
    return [Fraction(index, rate) for index in range(frames)]


@dataclass(frozen=True, slots=True)
class Talk:
    """Somebody talking: RGB pictures at 25 a second, 16 kHz sound, and the points of the face."""

    pictures: tuple[U8, ...]
    samples: F32
    points: F32


def talk(person: int, seconds: float, seed: int, side: int = _SIDE) -> Talk:
    """Drawn person number `person` saying something.

    Raises:
        SpeechEngineError: flite is absent or failed.
    """
    rng = np.random.default_rng((7, person, seed))
    looks = np.random.default_rng((8, person))
    renderer = PortraitRenderer.build(Identity.sample(looks), Light.sample(looks), Framing())
    frames = round(seconds * FPS)
    samples, mouth = _speech(seconds, rng)
    poses = head_motion(frames, 0.5, rng)
    blinks = rng.integers(0, max(frames, 1), frames // 80)
    pictures, points = [], []
    for index in range(frames):
        closed = bool(((index - blinks >= 0) & (index - blinks < 4)).any())
        picture, three = renderer.render(mouth[index], poses[index], Gaze(blink=float(closed)))
        scale = side / picture.shape[0]
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        pictures.append(np.asarray(small, np.uint8))
        points.append(three * scale)
    return Talk(tuple(pictures), samples, np.stack(points).astype(np.float32))


def _speech(seconds: float, rng: np.random.Generator) -> tuple[F32, F32]:
    """Sentences of one voice, and the mouth of every frame, [n, 7]."""
    frames = round(seconds * FPS)
    voice = Voice("flite", str(rng.choice(_VOICES)), "en")
    spoken: list[Utterance] = []
    while sum(len(said.samples) for said in spoken) < frames * FRAME_SAMPLES:
        spoken += speak([sentence("en", rng)], voice, Delivery())
    pauses = [0.2] * (len(spoken) + 1)
    speech = join_utterances(spoken, pauses)
    mouth = mouth_track(speech.gestures, speech.frames, MouthStyle())
    return level_speech(speech.samples)[: frames * FRAME_SAMPLES], mouth[:frames]


def make_people(folder: Path, people: int, seconds: float) -> None:
    """A folder a person with one good video in it."""
    for person in range(people):
        said = talk(person, seconds, 0)
        place = folder / f"person{person:02d}"
        place.mkdir(parents=True, exist_ok=True)
        write_video(place / "talk.mp4", said.pictures, steady(len(said.pictures)), said.samples)


def make_trouble(folder: Path, seconds: float) -> None:
    """One video of every kind that preparation has to see to."""
    folder.mkdir(parents=True, exist_ok=True)
    said = talk(50, seconds, 1)
    count = len(said.pictures)
    whole = write_video(folder / "broken.mp4", said.pictures, steady(count), said.samples)
    data = bytearray(whole.read_bytes())
    data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
    whole.write_bytes(bytes(data))
    write_video(folder / "no_sound.mp4", said.pictures, steady(count), None)
    write_video(folder / "too_short.mp4", said.pictures[:20], steady(20), said.samples[:12_800])

    late = talk(51, seconds, 1)
    held = np.pad(late.samples, (LATE_FRAMES * FRAME_SAMPLES, 0))[: len(late.samples)]
    write_video(folder / "late_sound.mp4", late.pictures, steady(count), held)

    other = talk(52, seconds, 1)
    both = [np.hstack(pair) for pair in zip(late.pictures, other.pictures, strict=True)]
    write_video(folder / "two_people.mp4", both, steady(count), late.samples)

    half = count // 2
    cut = [*late.pictures[:half], *other.pictures[half:]]
    sound = np.concatenate(
        [late.samples[: half * FRAME_SAMPLES], other.samples[half * FRAME_SAMPLES :]]
    )
    write_video(folder / "shot_cut.mp4", cut, steady(count), sound)

    # Every fifth picture twice, at 30 a second: what a converter of frame rates leaves.
    doubled = [other.pictures[5 * index // 6] for index in range(count * 6 // 5)]
    stereo = Track(rate_hz=48_000, channels=2)
    write_video(folder / "thirty.mp4", doubled, steady(len(doubled), 30), other.samples, stereo)

    rng = np.random.default_rng(3)
    uneven = [
        time + Fraction(int(rng.integers(-900, 900)), 90_000) if time else time
        for time in steady(count)
    ]
    turned = [np.rot90(picture) for picture in said.pictures]
    phone = write_video(folder / "phone.mp4", turned, uneven, said.samples, stereo)
    turn_by_header(phone)

    soft = [
        np.asarray(cv2.GaussianBlur(picture, (0, 0), 3.0), np.uint8) for picture in other.pictures
    ]
    write_video(folder / "out_of_focus.mp4", soft, steady(count), other.samples)
    write_video(folder / "dubbed.mp4", other.pictures, steady(count), said.samples)


def turn_by_header(path: Path) -> None:
    """Makes players turn an MP4's pictures clockwise by 90 degrees, as phones do.

    The first track header's matrix (ISO 14496-12, 8.3.2) is the identity before and a turn after.
    """
    one = 1 << 16
    identity = (one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    turn = (0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
    data = bytearray(path.read_bytes())
    place = data.index(_big_endian(identity), data.index(b"tkhd"))
    data[place : place + 36] = _big_endian(turn)
    path.write_bytes(bytes(data))


def _big_endian(numbers: Sequence[int]) -> bytes:
    return b"".join((number & 0xFFFFFFFF).to_bytes(4, "big") for number in numbers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the folder; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.toy_videos", description="Make videos of drawn people."
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=8.0, help="of every video")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cv2.setNumThreads(1)
    make_people(options.out, options.people, options.seconds)
    make_trouble(options.out / "trouble", options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
