"""Three short speeches by voices that no model is trained on, with their mouth tracks.

    python -m training.speech.demo --out DIR

writes en, zh and de, each as NAME_16k.wav, NAME_48k.wav and NAME_mouth.npy
(float32 [frames, 7], `training.mouth`). Tests and demos ask `demo_speech` for
the same samples; they are the same at every call.
"""

from __future__ import annotations

import argparse
import logging
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from scipy.signal import resample_poly

from engine.media import F32, SAMPLE_RATE_HZ
from training.speech.augment import level_speech
from training.speech.clips import join_utterances
from training.speech.engines import speak
from training.speech.utterance import Delivery, Voice
from training.speech.visemes import mouth_track

log = logging.getLogger(__name__)

BROADCAST_RATE_HZ: Final = 48_000
_LEAD_IN_S: Final = 0.8


@dataclass(frozen=True, slots=True)
class Script:
    """Who says what; every line is followed by its pause in seconds."""

    voice: Voice
    delivery: Delivery
    lines: tuple[tuple[str, float], ...]


SCRIPTS: Final[dict[str, Script]] = {
    "en": Script(
        Voice("flite", "slt", "en"),
        Delivery(rate=1.05),
        (
            ("Good morning, and welcome to our studio.", 0.7),
            ("My mouth moves with every word that you hear.", 0.4),
            ("Maybe you wonder how a picture can speak.", 1.5),
            ("People bring big blue boxes, five wooden forks, and a pot of warm soup.", 0.9),
            ("Now I will be quiet for a moment.", 1.6),
            ("Thank you very much, and goodbye.", 0.8),
        ),
    ),
    "zh": Script(
        Voice("espeak", "cmn-latn-pinyin+f4", "zh"),
        Delivery(rate=0.95, pitch=60),
        (
            ("da4jia1 hao3, huan1ying2 lai2 dao4 wo3men5 de5 jie2mu4", 0.7),
            ("ming2tian1 shang4wu3 wo3 bu4 mai3 mian4bao1 he2 ping2guo3", 0.5),
            ("wo3 de5 peng2you5 fei1chang2 xi3huan5 hua4 hua4", 1.5),
            ("ba4ba5 ma1ma5 dou1 zai4 fang2zi5 wai4mian4", 0.9),
            ("xian4zai4 wo3 xiu1xi5 yi1 hui4r5", 1.4),
            ("xie4xie5 ni3men5, zai4jian4", 0.8),
        ),
    ),
    "de": Script(
        Voice("espeak", "de+m6", "de"),
        Delivery(rate=0.95, pitch=45),
        (
            ("Guten Morgen und willkommen in unserem Studio.", 0.7),
            ("Mein Mund bewegt sich mit jedem Wort, das Sie hören.", 0.5),
            ("Vielleicht fragen Sie sich, wie ein Bild sprechen kann.", 1.5),
            ("Fünf Freunde möchten frische Brötchen mit Butter und Pflaumenmus.", 0.9),
            ("Jetzt bin ich einen Augenblick still.", 1.5),
            ("Vielen Dank und auf Wiedersehen.", 0.8),
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class DemoSpeech:
    """float32 samples at 16 kHz, whole frames of them, and the mouth [frames, 7]."""

    samples: F32
    mouth: F32

    @property
    def samples_48k(self) -> F32:
        """The same speech at 48 kHz."""
        ratio = BROADCAST_RATE_HZ // SAMPLE_RATE_HZ
        return np.asarray(np.clip(resample_poly(self.samples, ratio, 1), -1, 1), np.float32)


def demo_speech(name: str) -> DemoSpeech:
    """The speech of `SCRIPTS[name]`.

    Raises:
        KeyError: no such script.
        SpeechEngineError: the engine is absent or failed.
    """
    script = SCRIPTS[name]
    spoken = speak([text for text, _ in script.lines], script.voice, script.delivery)
    pauses = [pause for _, pause in script.lines]
    joined = join_utterances(spoken, [_LEAD_IN_S, *pauses])
    samples = level_speech(joined.samples)
    return DemoSpeech(np.clip(samples, -1, 1), mouth_track(joined.gestures, joined.frames))


def write_wav(path: Path, samples: F32, rate_hz: int) -> None:
    """A mono 16-bit wav file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(np.round(samples * 32767.0).astype(np.int16).tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description="Write three speeches with mouth tracks.")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in SCRIPTS:
        speech = demo_speech(name)
        write_wav(arguments.out / f"{name}_16k.wav", speech.samples, SAMPLE_RATE_HZ)
        write_wav(arguments.out / f"{name}_48k.wav", speech.samples_48k, BROADCAST_RATE_HZ)
        np.save(arguments.out / f"{name}_mouth.npy", speech.mouth)
        log.info("%s: %.1f s", name, len(speech.samples) / SAMPLE_RATE_HZ)


if __name__ == "__main__":
    main()
