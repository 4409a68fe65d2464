"""What 8-bit exports are calibrated on: bundled avatars that say bundled sentences.

The sound lies beside this file (`benchmarks.calibration_speech` wrote it), the faces are those that
the server comes with. None of it is in what quality is judged on (`benchmarks.quality.material`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

import engine
from engine.audio.features import FeatureStream
from engine.avatar import Avatar, load_avatar
from engine.media import F32, FRAME_SAMPLES
from engine.spec import AudioSpec

SPEECH_PATH: Final = Path(__file__).with_name("speech.npz")
AVATARS_PATH: Final = Path(engine.__file__).parent / "bundled" / "avatars"


def avatar_folders(count: int) -> list[Path]:
    """The first so many bundled avatars, by name; all of them where there are fewer."""
    return sorted(path for path in AVATARS_PATH.iterdir() if path.is_dir())[:count]


def data_digest(folders: list[Path]) -> str:
    """SHA-256 of the sound and of the avatars' files."""
    digest = hashlib.sha256(SPEECH_PATH.read_bytes())
    for folder in folders:
        for name in ("avatar.json", "clip.mp4"):
            digest.update((folder / name).read_bytes())
    return digest.hexdigest()


def short_avatars(folders: list[Path], frames: int) -> Iterator[Avatar]:
    """The avatars, with no more than the first frames of their clips."""
    for folder in folders:
        avatar = load_avatar(folder)
        reference = min(avatar.reference_frame, frames - 1)
        yield replace(
            avatar,
            pictures=avatar.pictures[:frames],
            points=avatar.points[:frames],
            reference_frame=reference,
        )


def spoken_mels(audio: AudioSpec, sessions: int, frames: int) -> list[F32]:
    """float32 [frames, n_mels, mel_frames] for each session: other stretches of the same speech."""
    with np.load(SPEECH_PATH) as stored:
        samples = stored["samples"].astype(np.float32) / 32767.0
    total = len(samples) // FRAME_SAMPLES
    before = -(-audio.mel_frames // 4) + 4  # frames that the first window reaches back, and more
    mels = []
    for session in range(sessions):
        first = session * total // sessions
        wanted = before + frames + audio.mel_frames
        order = (first + np.arange(wanted)) % total
        stream = FeatureStream(audio)
        stream.push(samples.reshape(total, FRAME_SAMPLES)[order].ravel())
        mels.append(stream.windows(range(before, before + frames)))
    return mels
