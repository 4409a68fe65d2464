"""Writes a corpus of synthetic speech with its mouth tracks.

    python -m training.speech.corpus --out DIR --minutes 120 --seed 1

DIR gets one folder a split (`training.speech.voices.SPLITS`), each with

    audio.npy   int16 [frames * 640], 16 kHz, clip after clip
    mouth.npy   float32 [frames, 7], see `training.mouth`
    clips.json  [{"start": frame, "frames": n, "engine", "voice", "language",
                  "kind": "speech" | "rest", "recorded": bool, "texts": [...]}]

A clip is 8 to 14 s of one voice with pauses; a few clips are noise or silence
under a resting mouth. `recorded` clips went through `augment.record`. The same
seed, minutes and engines give the same bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from engine.media import F32, FRAME_SAMPLES, SAMPLE_RATE_HZ
from training.mouth import rest_mouth
from training.speech.augment import GAIN_RANGE_DB, SPEECH_RMS, level_speech, noise, record
from training.speech.engines import (
    Delivery,
    EngineName,
    Utterance,
    Voice,
    speak_espeak,
    speak_festival,
    speak_flite,
)
from training.speech.sentences import babble, is_held_out, sentence
from training.speech.visemes import (
    Gesture,
    MouthStyle,
    frames_of,
    gestures_of,
    mouth_track,
)
from training.speech.voices import SPLITS, Speaker, Split, draw_speaker

log = logging.getLogger(__name__)

_SHARES: Final[dict[Split, float]] = {
    "train": 0.86,
    "sentences": 0.04,
    "voices": 0.045,
    "language": 0.025,
    "engine": 0.03,
}
_REST_SHARE: Final = 0.05
_RECORDED_SHARE: Final = 0.6
_BABBLE_SHARE: Final = 0.3
_CLIP_S: Final = (8.0, 14.0)


@dataclass(frozen=True, slots=True)
class Clip:
    """Some seconds of speech of one voice: int16-able samples, the track and who spoke."""

    samples: F32
    mouth: F32
    engine: str
    voice: str
    language: str
    kind: Literal["speech", "rest"]
    recorded: bool
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Speech:
    """Utterances one after another: whole frames of samples, and their gestures."""

    samples: F32
    gestures: tuple[Gesture, ...]

    @property
    def frames(self) -> int:
        return len(self.samples) // FRAME_SAMPLES


def speak(texts: Sequence[str], voice: Voice, delivery: Delivery) -> list[Utterance]:
    """`texts` one by one in one voice of any engine.

    Raises:
        SpeechEngineError: the engine is absent or failed.
    """
    if voice.engine == "festival":
        return speak_festival(texts, voice, delivery)
    if voice.engine == "flite":
        return [speak_flite(text, voice, delivery) for text in texts]
    return speak_espeak(texts, voice, delivery)


def random_clip(split: Split, rng: np.random.Generator) -> Clip:
    """A random clip of `split`."""
    if rng.random() < _REST_SHARE:
        return rest_clip(rng)
    speaker = draw_speaker(split, rng)
    seconds = rng.uniform(*_CLIP_S)
    delivery = Delivery(
        rate=float(rng.uniform(0.8, 1.25)),
        pitch=int(rng.integers(25, 80)),
        pitch_range=int(rng.integers(20, 80)),
        vocal_tract=float(np.exp(rng.uniform(-0.16, 0.16))),
    )
    style = MouthStyle(*(float(value) for value in rng.uniform(0.92, 1.08, 3)))
    texts = _texts(speaker, split, seconds * delivery.rate, rng)
    spoken = speak(texts, speaker.voice, delivery)
    return assemble_clip(spoken, texts, speaker.voice, style, rng)


def _texts(speaker: Speaker, split: Split, seconds: float, rng: np.random.Generator) -> list[str]:
    language = speaker.voice.language
    texts: list[str] = []
    while len(texts) < max(2, round(seconds / 4.0)):
        babbles = speaker.babbles or (rng.random() < _BABBLE_SHARE and split == "train")
        text = babble(language, rng) if babbles else sentence(language, rng)
        if split in ("language", "engine") or is_held_out(text) == (split != "train"):
            texts.append(text)
    return texts


def join_utterances(
    spoken: Sequence[Utterance], pauses_s: Sequence[float], engine: EngineName
) -> Speech:
    """`spoken` with silence before, between and after: one pause more than utterances."""
    pieces = [np.zeros(int(pauses_s[0] * SAMPLE_RATE_HZ), np.float32)]
    gestures: list[Gesture] = []
    for utterance, pause_s in zip(spoken, pauses_s[1:], strict=True):
        offset_s = sum(len(piece) for piece in pieces) / SAMPLE_RATE_HZ
        gestures += [_moved(gesture, offset_s) for gesture in gestures_of(engine, utterance)]
        pieces += [utterance.samples, np.zeros(int(pause_s * SAMPLE_RATE_HZ), np.float32)]
    joined = np.concatenate(pieces)
    missing = frames_of(len(joined)) * FRAME_SAMPLES - len(joined)
    return Speech(np.pad(joined, (0, missing)), tuple(gestures))


def assemble_clip(
    spoken: list[Utterance],
    texts: list[str],
    voice: Voice,
    style: MouthStyle,
    rng: np.random.Generator,
) -> Clip:
    """The utterances with pauses around them, recorded in some room, with their track."""
    pauses = [rng.uniform(0.2, 1.2)]
    for _ in spoken:
        pauses.append(rng.uniform(0.05, 0.4) if rng.random() < 0.6 else rng.uniform(0.5, 2.0))
    joined = join_utterances(spoken, pauses, voice.engine)
    samples = level_speech(joined.samples)
    recorded = bool(rng.random() < _RECORDED_SHARE)
    if recorded:
        samples = record(samples, rng)
    track = mouth_track(joined.gestures, joined.frames, style)
    return Clip(
        samples, track, voice.engine, voice.name, voice.language, "speech", recorded, tuple(texts)
    )


def rest_clip(rng: np.random.Generator) -> Clip:
    """Seconds of silence or noise that no mouth makes."""
    frames = int(rng.integers(100, 250))
    length = frames * FRAME_SAMPLES
    samples = np.zeros(length, np.float32)
    if rng.random() < 0.8:
        colour = rng.choice(["white", "pink", "brown", "hum"])
        samples = noise(length, colour, rng)
        swell = 1.0 + 0.5 * np.sin(
            2 * np.pi * rng.uniform(0.1, 3.0) * np.arange(length) / SAMPLE_RATE_HZ
        )
        level_db = rng.uniform(-55.0, -12.0) + rng.uniform(-GAIN_RANGE_DB, GAIN_RANGE_DB) / 2
        samples = (samples * swell * SPEECH_RMS * 10 ** (level_db / 20)).astype(np.float32)
    return Clip(
        np.clip(samples, -1, 1), rest_mouth(frames), "none", "none", "none", "rest", True, ()
    )


def _moved(gesture: Gesture, by_s: float) -> Gesture:
    hold = gesture.hold_s and (gesture.hold_s[0] + by_s, gesture.hold_s[1] + by_s)
    return Gesture(gesture.viseme, gesture.start_s + by_s, gesture.end_s + by_s, hold)


def write_split(folder: Path, clips: list[Clip]) -> None:
    """The three files of one split."""
    folder.mkdir(parents=True, exist_ok=True)
    audio = [np.round(clip.samples * 32767.0).astype(np.int16) for clip in clips]
    np.save(folder / "audio.npy", np.concatenate(audio))
    np.save(folder / "mouth.npy", np.concatenate([clip.mouth for clip in clips]))
    rows = []
    start = 0
    for clip in clips:
        row = dataclasses.asdict(clip)
        del row["samples"], row["mouth"]
        rows.append({"start": start, "frames": len(clip.mouth), **row})
        start += len(clip.mouth)
    (folder / "clips.json").write_text(json.dumps(rows, indent=0) + "\n", encoding="utf-8")


def write_corpus(out: Path, minutes: float, seed: int) -> None:
    """All splits under `out`.

    Raises:
        SpeechEngineError: an engine is absent or failed.
    """
    for number, split in enumerate(SPLITS):
        rng = np.random.default_rng((seed, number))
        wanted = minutes * 60 * SAMPLE_RATE_HZ * _SHARES[split]
        clips: list[Clip] = []
        made = 0
        while made < wanted:
            clips.append(random_clip(split, rng))
            made += len(clips[-1].samples)
            if len(clips) % 50 == 0:
                log.info("%s: %d clips, %.1f min", split, len(clips), made / SAMPLE_RATE_HZ / 60)
        write_split(out / split, clips)
        log.info("%s: %d clips, %.1f min, done", split, len(clips), made / SAMPLE_RATE_HZ / 60)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write synthetic speech with mouth tracks.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    write_corpus(arguments.out, arguments.minutes, arguments.seed)


if __name__ == "__main__":
    main()
