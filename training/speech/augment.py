"""What a room and a microphone do to speech, without moving it in time.

Formants and pitch are shifted where the speech is made
(`training.speech.utterance.Delivery`); the functions here keep the length and
the timing of what they get, to within a millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
from scipy.signal import butter, fftconvolve, sosfilt

from engine.media import F32, SAMPLE_RATE_HZ
from training.speech.lossy_codecs import CODECS, through_codec

NoiseColour = Literal["white", "pink", "brown", "hum"]
SPEECH_RMS: Final = 10 ** (-23 / 20)  # of the loud parts, before gain
GAIN_RANGE_DB: Final = 15.0
_COLOURS: Final[tuple[NoiseColour, ...]] = ("white", "pink", "brown", "hum")
_CODEC_NAMES: Final = ("opus", "mu-law", "a-law", "g722", "mp3", "aac")
_CODEC_SHARES: Final = (0.4, 0.15, 0.1, 0.05, 0.15, 0.15)


def level_speech(samples: F32) -> F32:
    """`samples` with the RMS of their loud parts (within 25 dB of the loudest) at -23 dBFS."""
    hop = SAMPLE_RATE_HZ // 50
    whole = len(samples) // hop * hop
    power = np.square(samples[:whole]).reshape(-1, hop).mean(axis=1)
    if whole == 0 or power.max() < 1e-10:
        return samples
    active = power[power > power.max() * 10**-2.5].mean()
    return np.asarray(samples * (SPEECH_RMS / np.sqrt(active)), np.float32)


def noise(samples: int, colour: NoiseColour, rng: np.random.Generator) -> F32:
    """float32 [samples] of noise with RMS 1."""
    if colour == "hum":
        time = np.arange(samples) / SAMPLE_RATE_HZ
        mains = 50.0 if rng.random() < 0.5 else 60.0
        tone = sum(
            np.sin(2 * np.pi * mains * k * time + rng.uniform(0, 6.3)) / k for k in range(1, 8)
        )
        sound = tone + 0.2 * rng.standard_normal(samples)
    else:
        spectrum = np.fft.rfft(rng.standard_normal(samples))
        hz = np.maximum(np.fft.rfftfreq(samples, 1 / SAMPLE_RATE_HZ), 40.0)
        slope = {"white": 0.0, "pink": 0.5, "brown": 1.0}[colour]
        sound = np.fft.irfft(spectrum * (hz / 1000.0) ** -slope, samples)
    return np.asarray(sound / (np.sqrt(np.mean(sound**2)) + 1e-12), np.float32)


def reverberate(samples: F32, rt60_s: float, direct_db: float, rng: np.random.Generator) -> F32:
    """`samples` in a synthetic room; the direct sound keeps its place and level.

    Args:
        rt60_s: time in which the tail falls by 60 dB.
        direct_db: level of the direct sound above the tail's whole energy.
    """
    length = int(rt60_s * SAMPLE_RATE_HZ)
    tail = rng.standard_normal(length) * 10 ** (-3.0 * np.arange(length) / length)
    tail[: int(0.002 * SAMPLE_RATE_HZ)] = 0.0
    tail *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1.0
    return np.asarray(fftconvolve(samples, tail)[: len(samples)], np.float32)


def limit_band(samples: F32, low_hz: float, high_hz: float) -> F32:
    """`samples` through a second-order band-pass, as a phone or a small microphone does."""
    sections = butter(2, (low_hz, high_hz), "bandpass", fs=SAMPLE_RATE_HZ, output="sos")
    return np.asarray(sosfilt(sections, samples), np.float32)


def crowd_noise(samples: int, crowd: Sequence[F32], rng: np.random.Generator) -> F32:
    """float32 [samples] with RMS 1: three to six of `crowd` speaking at once in a room."""
    mix = np.zeros(samples, np.float32)
    for _ in range(int(rng.integers(3, 7))):
        speaker = level_speech(crowd[int(rng.integers(len(crowd)))])
        turned = np.roll(speaker, int(rng.integers(len(speaker))))
        mix += np.resize(turned, samples) * np.float32(10 ** (rng.uniform(-6.0, 0.0) / 20))
    mix = reverberate(mix, 0.4, -3.0, rng)
    return np.asarray(mix / (np.sqrt(np.mean(mix**2)) + 1e-12), np.float32)


def overdrive(samples: F32, gain_db: float) -> F32:
    """`samples` as a preamplifier that is `gain_db` too hot clips them, at the old peak."""
    peak = float(np.abs(samples).max())
    return np.asarray(np.clip(samples * 10 ** (gain_db / 20), -peak, peak), np.float32)


def record(samples: F32, rng: np.random.Generator, crowd: Sequence[F32] = ()) -> F32:
    """`samples` as some microphone in some room would give them, at some level.

    Each effect is drawn on its own; now and then none is.

    Args:
        crowd: speech of others, for the background.
    """
    sound = samples
    if rng.random() < 0.55:
        sound = reverberate(sound, rng.uniform(0.12, 0.6), rng.uniform(0.0, 14.0), rng)
    if crowd and rng.random() < 0.15:
        level = SPEECH_RMS * 10 ** (-rng.uniform(8.0, 30.0) / 20)
        sound = sound + level * crowd_noise(len(sound), crowd, rng)
    if rng.random() < 0.7:
        colour = _COLOURS[rng.choice(len(_COLOURS), p=(0.3, 0.35, 0.25, 0.1))]
        level = SPEECH_RMS * 10 ** (-rng.uniform(8.0, 45.0) / 20)
        sound = sound + level * noise(len(sound), colour, rng)
    if rng.random() < 0.4:
        sound = limit_band(sound, rng.uniform(40, 300), rng.uniform(3200, 7600))
    if rng.random() < 0.06:
        sound = overdrive(sound, rng.uniform(3.0, 15.0))
    sound = sound * 10 ** (rng.uniform(-GAIN_RANGE_DB, GAIN_RANGE_DB) / 20)
    sound = np.clip(sound, -1.0, 1.0).astype(np.float32)
    if rng.random() < 0.35:
        sound = _coded(sound, rng)
    return np.clip(sound, -1.0, 1.0)


def _coded(samples: F32, rng: np.random.Generator) -> F32:
    name = _CODEC_NAMES[int(rng.choice(len(_CODEC_NAMES), p=_CODEC_SHARES))]
    codec = CODECS[name]
    bit_rate = int(rng.choice(codec.bit_rates)) if codec.bit_rates else None
    return through_codec(samples, codec, bit_rate)
