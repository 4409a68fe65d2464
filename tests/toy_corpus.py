"""A corpus of a few random frames and a second of noise, in the layout of the real one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from engine.media import FRAME_SAMPLES
from training.speech.voices import SPLITS

CLIP_FRAMES = 28


def write_toy_corpus(folder: Path, resolution: int = 128) -> Path:
    """Two faces to train on and one held out, each saying one clip of noise."""
    rng = np.random.default_rng(0)
    speech, faces = folder / "speech", folder / "faces"
    for split in SPLITS:
        (speech / split).mkdir(parents=True)
        samples = rng.normal(0, 2000, CLIP_FRAMES * FRAME_SAMPLES).astype(np.int16)
        np.save(speech / split / "audio.npy", samples)
        np.save(speech / split / "mouth.npy", rng.random((CLIP_FRAMES, 7), dtype=np.float32))
        clips = [{"start": 0, "frames": CLIP_FRAMES}]
        (speech / split / "clips.json").write_text(json.dumps(clips))
    faces.mkdir()
    entries = [
        {
            "first": index * CLIP_FRAMES,
            "frames": CLIP_FRAMES,
            "identity": index,
            "split": split,
            "speech": speech_name,
            "start_frame": 0,
        }
        for index, (split, speech_name) in enumerate(
            (("train", "train/0"), ("train", "train/0"), ("test", "voices/0"))
        )
    ]
    shape = (len(entries), resolution, resolution, 3)
    stills = rng.integers(0, 255, shape, dtype=np.uint8)
    frames = np.repeat(stills, CLIP_FRAMES, axis=0)
    frames += rng.integers(0, 9, frames.shape, dtype=np.uint8) // 2
    np.save(faces / "crops_00.npy", frames)
    np.save(faces / "source_00.npy", frames[:, ::-1])
    np.save(faces / "flow_00.npy", rng.normal(0, 0.2, (len(frames), 16, 16, 2)).astype(np.float16))
    np.save(faces / "mouth_00.npy", rng.random((len(frames), 7), dtype=np.float32))
    (faces / "crops_00.json").write_text(json.dumps(entries))
    return folder
