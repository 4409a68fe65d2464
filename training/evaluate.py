"""Scores a model folder on held-out faces that say held-out speech.

    python -m training.evaluate --model engine/bundled/model

Runs the model hop by hop through a backend, as a stream does, over faces and
speech that no part of it was trained on. A judge that has only seen rendered
truth (`training.regressor`) reads the mouths back. Beside every score stand the
same with another clip's sound, which must fall to nothing, and two floors: a
constant mouth and a mouth driven by loudness alone.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch

from engine.backends.base import Backend, HopInput
from engine.backends.select import open_backend
from engine.checkpoints import CODEC_FILE, UNET_FILE, file_digest
from engine.face.mask import paste_weights
from engine.media import F32, U8
from engine.pipeline import show_crops
from engine.spec import AudioSpec
from training.audio_encoder import read_windows, to_log_mel
from training.dataset import (
    CORPUS_FOLDER,
    Clip,
    CropStore,
    SpeechStore,
    windows_of,
)
from training.picture_scores import picture_scores
from training.regressor import PATH as REGRESSOR_PATH
from training.regressor import MouthRegressor, read_mouths
from training.regressor import load as load_regressor
from training.speech.floors import features_of, fit_ridge, loudness
from training.speech.scores import Scores, mouth_scores
from training.speech.voices import SPLITS

log = logging.getLogger(__name__)

CLIP_FRAMES: Final = 160
FLOOR_ROWS: Final = 20_000
SHEET_COLUMNS: Final = 8
SHEET_TAKES: Final = 5


@dataclass(frozen=True, slots=True)
class Take:
    """A face that says something.

    Attributes:
        source: [frames, R, R, 3] the picture that comes in, with some other mouth.
        truth: the same with the mouth that the speech asks for; the source where
            it was never rendered.
        mel: [frames, n_mels, mel_frames].
        mouth: [frames, 7] what the speech asks for.
    """

    source: U8
    truth: U8
    mel: F32
    mouth: F32


def generate(backend: Backend, take: Take, hop: int) -> U8:
    """uint8 [frames, R, R, 3]: the crops with the generated mouth pasted in.

    Frames are cut to whole hops.
    """
    reference = backend.encode(take.source, masked=False)
    masked = backend.encode(take.source, masked=True)
    state = backend.new_session(hop_frames=hop, seed=0)
    weights = paste_weights(backend.spec.face, backend.spec.resolution)
    parts = []
    for first in range(0, len(take.mel) // hop * hop, hop):
        rows = slice(first, first + hop)
        hop_input = HopInput(state, take.mel[rows], masked[rows], reference[rows])
        (generated,) = backend.run_hop([hop_input])
        parts.append(show_crops(generated, take.source[rows], weights))
    return np.concatenate(parts)


def paired_take(store: CropStore, speech: SpeechStore, clip: Clip) -> Take:
    """A clip whose truth was rendered."""
    power = torch.from_numpy(speech.rows(clip, 0, clip.frames).T)[None]
    mel = windows_of(power, speech.spec)[0].numpy()
    return Take(store.source(clip), store.crops(clip), mel, store.mouth(clip))


def speech_takes(
    store: CropStore, spec: AudioSpec, split: str, count: int, folder: Path
) -> list[Take]:
    """Held-out speech over held-out faces, whose own mouths say something else.

    The pictures run forwards and backwards, as an avatar's loop does.
    """
    windows = read_windows(folder / split, spec)
    spoken = [span for span in windows.clips if span[1] >= CLIP_FRAMES]
    faces = store.clips("test")
    takes = []
    for number in range(min(count, len(spoken))):
        start = spoken[number * len(spoken) // count][0]
        frames = torch.arange(start, start + CLIP_FRAMES)
        power = windows.batch(frames, spec.mel_frames)
        mel = to_log_mel(power, spec.log_floor).numpy()
        clip = faces[(number * 7 + SPLITS.index(split) * 3) % len(faces)]
        crops = store.source(clip)
        there_and_back = np.concatenate([crops, crops[::-1]])
        source = there_and_back[np.arange(CLIP_FRAMES) % len(there_and_back)]
        mouth = windows.mouth[frames].numpy()
        takes.append(Take(source, source, mel, mouth))
    return takes


def judged(regressor: MouthRegressor, videos: Sequence[U8], takes: Sequence[Take]) -> Scores:
    """How the mouths in `videos` follow what the takes ask for."""
    found = np.concatenate([read_mouths(regressor, video) for video in videos])
    return tracked(found, takes)


def tracked(found: F32, takes: Sequence[Take]) -> Scores:
    """How mouth tracks, end to end, follow what the takes ask for."""
    truth = np.concatenate([take.mouth for take in takes])
    ends = np.cumsum([len(take.mouth) for take in takes])
    spans = [(int(e) - len(t.mouth), len(t.mouth)) for e, t in zip(ends, takes, strict=True)]
    return mouth_scores(found, truth, spans)


def with_sound_of(takes: Sequence[Take]) -> list[Take]:
    """The takes, each with the next one's sound but its own mouth to be held against."""
    others = [*takes[1:], takes[0]]
    return [
        Take(take.source, take.truth, other.mel, take.mouth)
        for take, other in zip(takes, others, strict=True)
    ]


def shortened(take: Take, frames: int) -> Take:
    """The first `frames` of a take."""
    rows = slice(frames)
    return Take(take.source[rows], take.truth[rows], take.mel[rows], take.mouth[rows])


def loudness_floor(folder: Path, spec: AudioSpec, takes: Sequence[Take]) -> Scores:
    """Scores of a ridge on loudness, the best that a mouth can do without hearing what is said."""
    train = read_windows(folder / "train", spec, FLOOR_ROWS)
    rows = np.arange(min(FLOOR_ROWS, len(train.mouth)))
    weights = fit_ridge(features_of(train, rows, loudness), train.mouth.numpy()[rows])
    mel = np.concatenate([take.mel for take in takes])
    table = np.concatenate([loudness(mel), np.ones((len(mel), 1), np.float32)], axis=1)
    return tracked(np.asarray(table @ weights, np.float32), takes)


def chosen_frames(take: Take, frames: int) -> list[int]:
    """Frames of a take that show its mouth's range: by opening, and the extremes of its shapes."""
    opening = np.argsort(take.mouth[:frames, 0])
    quantiles = np.linspace(0, len(opening) - 1, SHEET_COLUMNS // 2).astype(int)
    return [*opening[quantiles], *take.mouth[:frames, 1:5].argmax(axis=0)]


def contact_sheet(path: Path, takes: Sequence[Take], videos: Sequence[Sequence[U8]]) -> None:
    """A PNG: per take a row of source crops, one of rendered truth and one of each model's."""
    rows = []
    for take, generated in zip(takes, zip(*videos, strict=True), strict=True):
        chosen = chosen_frames(take, min(len(video) for video in generated))
        items = (take.source, take.truth, *generated)
        rows += [np.concatenate(list(item[chosen]), axis=1) for item in items]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


@dataclass(frozen=True, slots=True)
class Material:
    """Held-out faces and speech, and the judge.

    Attributes:
        spoken: per split, speech over faces whose true pictures were never rendered.
        paired: clips whose truth was rendered.
    """

    judge: MouthRegressor
    spoken: dict[str, list[Take]]
    paired: list[Take]

    @classmethod
    def read(cls, corpus: Path, judge: Path, spec: AudioSpec, clips: int) -> Material:
        """`clips` takes of every split, and three times as many with truth."""
        store, speech = (
            CropStore.open(corpus / "faces"),
            SpeechStore(spec, corpus / "speech"),
        )
        spoken: dict[str, list[Take]] = {
            split: speech_takes(store, spec, split, clips, corpus / "speech")
            for split in SPLITS
            if split != "train" and (corpus / "speech" / split).is_dir()
        }
        held = [clip for clip in store.clips("test") if clip.speech][: 3 * clips]
        return cls(load_regressor(judge), spoken, [paired_take(store, speech, c) for c in held])


def scores_of(backend: Backend, material: Material) -> tuple[dict[str, Any], list[U8]]:
    """All scores of a model, and its videos of the takes with truth."""
    hop, judge = backend.spec.hop_frames, material.judge
    scores: dict[str, Any] = {
        "model": backend.spec.name,
        "backend": backend.name,
        "hop_frames": hop,
        "steps": len(backend.spec.timesteps),
        "held_out": {},
        "held_out_with_wrong_sound": {},
    }
    for split, takes in material.spoken.items():
        videos = [generate(backend, take, hop) for take in takes]
        scores["held_out"][split] = judged(judge, videos, takes)
        wrong = with_sound_of(takes)
        astray = [generate(backend, take, hop) for take in wrong]
        scores["held_out_with_wrong_sound"][split] = judged(judge, astray, wrong)
        log.info("%s, %s: %s", backend.spec.name, split, scores["held_out"][split])
    videos = [generate(backend, take, hop) for take in material.paired]
    cut = [shortened(t, len(video)) for t, video in zip(material.paired, videos, strict=True)]
    sources, truths = [take.source for take in cut], [take.truth for take in cut]
    scores["pictures"] = picture_scores(videos, sources, truths, hop)
    scores["with_truth"] = judged(judge, videos, cut)
    log.info("%s, pictures: %s", backend.spec.name, scores["pictures"])
    return scores, videos


def evaluate(options: argparse.Namespace) -> dict[str, Any]:
    """The report on a model, ready for JSON, and its contact sheet."""
    backends = [open_backend(options.model, options.backend)]
    if options.beside is not None:
        backends.append(open_backend(options.beside, options.backend))
    audio = backends[0].spec.audio
    material = Material.read(options.corpus, options.judge, audio, options.clips)
    judge = json.loads(options.judge.with_suffix(".json").read_text())
    report: dict[str, Any] = {
        "unet_sha256": file_digest(options.model / UNET_FILE),
        "codec_sha256": file_digest(options.model / CODEC_FILE),
        "judge_on_rendered_truth": judge,
        "frames_a_split": options.clips * CLIP_FRAMES,
    }
    made = [scores_of(backend, material) for backend in backends]
    report |= made[0][0]
    if options.beside is not None:
        report["beside"] = made[1][0]
    speech = options.corpus / "speech"
    report["floor_loudness"] = {
        split: loudness_floor(speech, audio, takes) for split, takes in material.spoken.items()
    }
    mouths = np.concatenate([take.mouth for take in material.paired])
    constant = np.repeat(mouths.mean(axis=0, keepdims=True), len(mouths), axis=0)
    report["floor_constant"] = tracked(constant, material.paired)
    shown = [videos[:SHEET_TAKES] for _, videos in made]
    contact_sheet(options.out.with_suffix(".png"), material.paired[:SHEET_TAKES], shown)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=Path("engine/bundled/model"))
    parser.add_argument("--beside", type=Path, help="another model folder, scored on the same")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--clips", type=int, default=8, help="a split")
    parser.add_argument("--corpus", type=Path, default=CORPUS_FOLDER)
    parser.add_argument("--judge", type=Path, default=REGRESSOR_PATH)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/bundled-quality.json"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    options.out.write_text(json.dumps(evaluate(options), indent=1) + "\n")


if __name__ == "__main__":
    main()
