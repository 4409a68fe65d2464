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
from engine.checkpoints import CODEC_FILE, file_digest, load_codec
from engine.face.mask import paste_weights
from engine.media import F32, U8
from engine.pipeline import show_crops
from training.audio_encoder import read_windows, to_log_mel
from training.codec import psnr
from training.dataset import (
    CORPUS_FOLDER,
    MOUTH_BOX,
    Clip,
    CropStore,
    SpeechStore,
    to_tensor,
    windows_of,
)
from training.regressor import PATH as REGRESSOR_PATH
from training.regressor import MouthRegressor, read_mouths
from training.regressor import load as load_regressor
from training.speech.floors import features_of, fit_ridge, loudness
from training.speech.scores import Scores, mouth_scores

log = logging.getLogger(__name__)

SPLITS: Final = ("sentences", "voices", "language", "engine")
CLIP_FRAMES: Final = 160
FLOOR_ROWS: Final = 20_000
SHEET_COLUMNS: Final = 8


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


def paired_take(store: CropStore, speech: SpeechStore, backend: Backend, clip: Clip) -> Take:
    """A clip whose truth was rendered."""
    power = torch.from_numpy(speech.rows(clip, 0, clip.frames).T)[None]
    mel = windows_of(power, backend.spec.audio)[0].numpy()
    return Take(store.source(clip), store.crops(clip), mel, store.mouth(clip))


def speech_takes(
    store: CropStore, backend: Backend, split: str, count: int, folder: Path
) -> list[Take]:
    """Held-out speech over held-out faces, whose own mouths say something else.

    The pictures run forwards and backwards, as an avatar's loop does.
    """
    windows = read_windows(folder / split, backend.spec.audio)
    spoken = [span for span in windows.clips if span[1] >= CLIP_FRAMES]
    faces = store.clips("test")
    takes = []
    for number in range(min(count, len(spoken))):
        start = spoken[number * len(spoken) // count][0]
        frames = torch.arange(start, start + CLIP_FRAMES)
        power = windows.batch(frames, backend.spec.audio.mel_frames)
        mel = to_log_mel(power, backend.spec.audio.log_floor).numpy()
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


def mouth_of(video: U8) -> F32:
    """float32 [frames, h, w, 3]: the mouth's box."""
    size = video.shape[1]
    left, top, right, bottom = (round(edge * size) for edge in MOUTH_BOX)
    return video[:, top:bottom, left:right].astype(np.float32)


def boundary_ratio(videos: Sequence[U8], hop: int) -> float:
    """Mean |frame difference| of the mouth at hop borders over that inside hops; 1 is seamless."""
    border, inside = [], []
    for video in videos:
        change = np.abs(np.diff(mouth_of(video), axis=0)).mean(axis=(1, 2, 3))
        at_border = np.arange(1, len(video)) % hop == 0
        border.append(change[at_border])
        inside.append(change[~at_border])
    return float(np.concatenate(border).mean() / np.concatenate(inside).mean())


def mouth_error(videos: Sequence[U8], truths: Sequence[U8]) -> float:
    """PSNR in dB in the mouth's box."""
    errors = [
        np.square(mouth_of(video) - mouth_of(truth[: len(video)])).mean()
        for video, truth in zip(videos, truths, strict=True)
    ]
    return psnr(float(np.mean(errors)), 255.0)


def through_codec(backend: Backend, crops: U8, model_dir: Path) -> U8:
    """The codec's round trip: no generated crop can be better."""
    codec = load_codec(model_dir, backend.spec)
    with torch.no_grad():
        decoded = codec.decode(codec.encode(to_tensor(crops)))
    pictures = ((decoded.clamp(-1, 1) + 1) * 127.5).round().byte()
    return np.ascontiguousarray(pictures.permute(0, 2, 3, 1).numpy())


def picture_scores(
    backend: Backend, videos: Sequence[U8], takes: Sequence[Take], hop: int, model_dir: Path
) -> dict[str, float]:
    """How near the generated mouths come to the rendered ones, in pixels."""
    truths = [take.truth for take in takes]
    ceiling = [through_codec(backend, truth, model_dir) for truth in truths]
    return {
        "mouth_psnr_db": round(mouth_error(videos, truths), 2),
        "mouth_psnr_codec_ceiling_db": round(mouth_error(ceiling, truths), 2),
        "mouth_psnr_source_shown_db": round(mouth_error([t.source for t in takes], truths), 2),
        "boundary_ratio": round(boundary_ratio(videos, hop), 4),
        "boundary_ratio_truth": round(boundary_ratio(truths, hop), 4),
    }


def loudness_floor(folder: Path, backend: Backend, takes: Sequence[Take]) -> Scores:
    """Scores of a ridge on loudness, the best that a mouth can do without hearing what is said."""
    spec = backend.spec.audio
    train = read_windows(folder / "train", spec, FLOOR_ROWS)
    rows = np.arange(min(FLOOR_ROWS, len(train.mouth)))
    weights = fit_ridge(features_of(train, rows, loudness), train.mouth.numpy()[rows])
    mel = np.concatenate([take.mel for take in takes])
    table = np.concatenate([loudness(mel), np.ones((len(mel), 1), np.float32)], axis=1)
    return tracked(np.asarray(table @ weights, np.float32), takes)


def contact_sheet(path: Path, videos: Sequence[U8], takes: Sequence[Take]) -> None:
    """A PNG: per take a row of source crops, one of rendered truth and one of generated ones."""
    rows = []
    for video, take in zip(videos, takes, strict=True):
        opening = np.argsort(take.mouth[: len(video), 0])
        quantiles = np.linspace(0, len(opening) - 1, SHEET_COLUMNS // 2).astype(int)
        chosen = [*opening[quantiles], *take.mouth[: len(video), 1:5].argmax(axis=0)]
        rows += [
            np.concatenate(list(item[chosen]), axis=1) for item in (take.source, take.truth, video)
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.concatenate(rows)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


def evaluate(
    model_dir: Path, backend_name: str, clips: int, sheet: Path, corpus: Path
) -> dict[str, Any]:
    """Every score, ready for JSON."""
    backend = open_backend(model_dir, backend_name)
    regressor, hop = load_regressor(), backend.spec.hop_frames
    store, speech = CropStore.open(corpus / "faces"), SpeechStore(backend.spec.audio)
    report: dict[str, Any] = {
        "model": backend.spec.name,
        "unet_sha256": file_digest(model_dir / "unet.safetensors"),
        "codec_sha256": file_digest(model_dir / CODEC_FILE),
        "backend": backend.name,
        "hop_frames": hop,
        "steps": len(backend.spec.timesteps),
        "judge_on_rendered_truth": json.loads(REGRESSOR_PATH.with_suffix(".json").read_text()),
        "frames_a_split": clips * CLIP_FRAMES,
        "held_out": {},
        "held_out_with_wrong_sound": {},
        "floor_loudness": {},
    }
    for split in SPLITS:
        takes = speech_takes(store, backend, split, clips, corpus / "speech")
        videos = [generate(backend, take, hop) for take in takes]
        report["held_out"][split] = judged(regressor, videos, takes)
        wrong = with_sound_of(takes)
        astray = [generate(backend, take, hop) for take in wrong]
        report["held_out_with_wrong_sound"][split] = judged(regressor, astray, wrong)
        report["floor_loudness"][split] = loudness_floor(corpus / "speech", backend, takes)
        log.info("%s: %s", split, report["held_out"][split])
    held = [clip for clip in store.clips("test") if clip.speech][: 3 * clips]
    paired = [paired_take(store, speech, backend, clip) for clip in held]
    videos = [generate(backend, take, hop) for take in paired]
    cut = [shortened(take, len(video)) for take, video in zip(paired, videos, strict=True)]
    report["pictures"] = picture_scores(backend, videos, cut, hop, model_dir)
    mouths = np.concatenate([take.mouth for take in cut])
    constant = np.repeat(mouths.mean(axis=0, keepdims=True), len(mouths), axis=0)
    report["floor_constant"] = tracked(constant, cut)
    contact_sheet(sheet, videos[:4], cut[:4])
    log.info("pictures: %s", report["pictures"])
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=Path("engine/bundled/model"))
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--clips", type=int, default=8, help="a split")
    parser.add_argument("--corpus", type=Path, default=CORPUS_FOLDER)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/bundled-quality.json"))
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    sheet = args.out.with_suffix(".png")
    report = evaluate(args.model, args.backend, args.clips, sheet, args.corpus)
    args.out.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
