"""Clips of the speech corpus: seconds of one voice with its mouth track."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from engine.media import F32, FRAME_SAMPLES, SAMPLE_RATE_HZ
from training.mouth import rest_mouth
from training.speech.augment import GAIN_RANGE_DB, SPEECH_RMS, level_speech, noise, record
from training.speech.engines import speak
from training.speech.sentences import babble, is_held_out, sentence
from training.speech.utterance import Delivery, EngineName, Utterance, Voice
from training.speech.visemes import (
    Gesture,
    MouthStyle,
    frames_of,
    gestures_of,
    mouth_track,
)
from training.speech.voices import Speaker, Split, draw_speaker

_REST_SHARE: Final = 0.05
_RECORDED_SHARE: Final = 0.65
_BABBLE_SHARE: Final = 0.3
_CLIP_S: Final = (8.0, 14.0)
_CROWD: Final = 12  # clips that are remembered for the background of others


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


class ClipMaker:
    """Random clips of one split; what it has spoken is the crowd behind later clips.

    Args:
        without: engines that are not asked.
    """

    def __init__(
        self, split: Split, rng: np.random.Generator, without: Collection[EngineName] = ()
    ) -> None:
        self._split, self._rng, self._without = split, rng, without
        self._crowd: deque[F32] = deque(maxlen=_CROWD)

    def make(self) -> Clip:
        """The next clip.

        Raises:
            SpeechEngineError: the engine is absent or failed.
            KeyError: it spoke a phone that has no viseme.
        """
        rng = self._rng
        if rng.random() < _REST_SHARE:
            return rest_clip(rng)
        speaker = draw_speaker(self._split, rng, self._without)
        seconds = rng.uniform(*_CLIP_S)
        delivery = Delivery(
            rate=float(rng.uniform(0.8, 1.25)),
            pitch=int(rng.integers(25, 80)),
            pitch_range=int(rng.integers(20, 80)),
            vocal_tract=float(np.exp(rng.uniform(-0.16, 0.16))),
        )
        style = MouthStyle(*(float(value) for value in rng.uniform(0.92, 1.08, 3)))
        texts = _texts(speaker, self._split, seconds * delivery.rate, rng)
        spoken = speak(texts, speaker.voice, delivery)
        speech = join_utterances(spoken, _pauses(len(spoken), rng))
        clip = _recorded(speech, texts, speaker.voice, style, rng, self._crowd)
        self._crowd.append(speech.samples)
        return clip


def _texts(speaker: Speaker, split: Split, seconds: float, rng: np.random.Generator) -> list[str]:
    language = speaker.voice.language
    texts: list[str] = []
    while len(texts) < max(2, round(seconds / 4.0)):
        babbles = speaker.babbles or (rng.random() < _BABBLE_SHARE and split == "train")
        text = babble(language, rng) if babbles else sentence(language, rng)
        if split in ("language", "engine", "neural") or is_held_out(text) == (split != "train"):
            texts.append(text)
    return texts


def join_utterances(spoken: Sequence[Utterance], pauses_s: Sequence[float]) -> Speech:
    """`spoken` with silence before, between and after: one pause more than utterances."""
    pieces = [np.zeros(int(pauses_s[0] * SAMPLE_RATE_HZ), np.float32)]
    gestures: list[Gesture] = []
    for utterance, pause_s in zip(spoken, pauses_s[1:], strict=True):
        offset_s = sum(len(piece) for piece in pieces) / SAMPLE_RATE_HZ
        gestures += [_moved(gesture, offset_s) for gesture in gestures_of(utterance)]
        pieces += [utterance.samples, np.zeros(int(pause_s * SAMPLE_RATE_HZ), np.float32)]
    joined = np.concatenate(pieces)
    missing = frames_of(len(joined)) * FRAME_SAMPLES - len(joined)
    return Speech(np.pad(joined, (0, missing)), tuple(gestures))


def _pauses(utterances: int, rng: np.random.Generator) -> list[float]:
    pauses = [rng.uniform(0.2, 1.2)]
    for _ in range(utterances):
        pauses.append(rng.uniform(0.05, 0.4) if rng.random() < 0.6 else rng.uniform(0.5, 2.0))
    return pauses


def _recorded(
    speech: Speech,
    texts: list[str],
    voice: Voice,
    style: MouthStyle,
    rng: np.random.Generator,
    crowd: Sequence[F32],
) -> Clip:
    samples = level_speech(speech.samples)
    recorded = bool(rng.random() < _RECORDED_SHARE)
    if recorded:
        samples = record(samples, rng, crowd)
    track = mouth_track(speech.gestures, speech.frames, style)
    return Clip(
        np.clip(samples, -1.0, 1.0),
        track,
        voice.engine,
        voice.name,
        voice.language,
        "speech",
        recorded,
        tuple(texts),
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
