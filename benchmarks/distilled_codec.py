"""Distils a small decoder from a KL codec of the synthetic faces, and says how near it comes.

    python -m benchmarks.distilled_codec --corpus .scratch/corpus --work .scratch/codec

The published codec cannot stand in a repository, so its part is played by a KL codec of its depth
and an eighth of its width, taught the corpus's faces for some minutes of one core. The student is
the served one at its full size. Its training resumes; a teacher that is there is kept. JSON and a
picture go to benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.codec_rows.small_vae import SMALL, load_small_vae, save_small_vae, train_small_vae
from benchmarks.measure import count_flops
from benchmarks.report import here
from engine.checkpoints import CODEC_FILE, MODEL_FILE, TINY_DECODER_FILE
from engine.media import U8
from engine.models.build import build_codec
from engine.models.kl_vae import KlCodec
from engine.models.taesd import TaesdDecoder
from engine.published import LATENTSYNC_1_5
from engine.spec import ModelSpec
from training.dataset import BUNDLED_FACE, CORPUS_FOLDER, RESOLUTION, CropStore, to_tensor
from training.distil_codec import (
    corpus_crops,
    distil,
    fidelity,
    fresh_student,
    student_spec,
)
from training.optimise import Recipe

log = logging.getLogger(__name__)

NAME: Final = "distilled_codec"
BUDGET_GFLOP: Final = 35.0  # a frame of 256 pixels
TEACHER: Final = replace(
    LATENTSYNC_1_5, name="small-kl", resolution=RESOLUTION, codec=SMALL, face=BUNDLED_FACE
)
TEACHER_PICTURES: Final = 400
HELD_OUT, SHOWN = 64, 6
TIMED: Final = 5


def teacher_folder(folder: Path, store: CropStore, seconds: float) -> Path:
    """The teacher's folder with its codec, trained where it is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CODEC_FILE
    if not path.is_file():
        pictures = to_tensor(store.sample(TEACHER_PICTURES, "train", 1))
        codec, steps = train_small_vae(pictures, seconds)
        save_small_vae(codec, path, {"steps": str(steps)})
        log.info("teacher: %d steps", steps)
    (folder / MODEL_FILE).write_text(TEACHER.to_json(), encoding="utf-8")
    return folder


def gflop_at_256(make: Callable[[], Any]) -> float:
    """GFLOP of one decode at the published size."""
    with torch.device("meta"):
        codec, latents = make(), torch.zeros(1, 4, 32, 32)
    with torch.no_grad():
        return round(count_flops(lambda: codec(latents)) / 1e9, 1)


@torch.no_grad()
def cpu_ms(decode: Callable[[Tensor], Tensor], size: int) -> float:
    """Median CPU time of decoding one frame of size x size latents, one thread, f32."""
    latents, spent = torch.randn(1, 4, size, size), []
    decode(latents)
    for _ in range(TIMED):
        began = time.process_time()
        decode(latents)
        spent.append(1e3 * (time.process_time() - began))
    return round(float(np.median(spent)), 1)


@torch.no_grad()
def side_by_side(teacher: KlCodec, student: TaesdDecoder, pictures: Tensor) -> U8:
    """Rows: the pictures, what the teacher decodes, what the student does."""
    latents = teacher.encode(pictures)
    rows = [pictures, teacher.decode(latents), student(latents)]
    levels = [((row.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1) for row in rows]
    return np.concatenate([np.concatenate(list(row.numpy()), axis=1) for row in levels])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.distilled_codec",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--corpus", type=Path, default=CORPUS_FOLDER)
    parser.add_argument("--work", type=Path, default=Path(".scratch/codec"))
    parser.add_argument("--teacher-s", type=float, default=240.0, help="CPU time of the teacher's")
    parser.add_argument("--steps", type=int, default=2000, help="of the student")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    store = CropStore.open(given.corpus / "faces")
    source = teacher_folder(given.work / "teacher", store, given.teacher_s)
    crops = corpus_crops(store, RESOLUTION)
    recipe = Recipe(given.steps, given.batch, given.rate, average=0.99, warmup=50, seed=5)
    began = time.process_time()
    spec = distil(source, given.work / "student", crops, recipe)
    spent = time.process_time() - began
    teacher, about = load_small_vae(source / CODEC_FILE)
    student = fresh_student(spec, given.work / "student" / TINY_DECODER_FILE).eval()
    held_out = crops(HELD_OUT, "test", 0)
    found = fidelity(teacher, student, spec, held_out)
    served = student_spec(LATENTSYNC_1_5)
    gflop = {
        "student": gflop_at_256(lambda: fresh_student(served)),
        "kl": gflop_at_256(lambda: _decoder_of(LATENTSYNC_1_5)),
        "budget": BUDGET_GFLOP,
    }
    arguments = [
        f"--teacher-s {given.teacher_s:g}",
        f"--steps {given.steps}",
        f"--batch {given.batch}",
        f"--rate {given.rate:g}",
    ]
    result = {
        "circumstances": here(f"python -m benchmarks.{NAME}", arguments).to_dict(),
        "teacher_steps": int(about["steps"]),
        "student_cpu_s": round(spent),  # of this call alone: less where it resumed
        "held_out_faces": HELD_OUT,
        "psnr_db": {name: round(value, 2) for name, value in asdict(found).items()},
        "gflop_at_256": gflop,
        "cpu_ms": {
            "student_at_256": cpu_ms(student, 32),
            "student_at_128": cpu_ms(student, 16),
            "small_teacher_at_128": cpu_ms(teacher.decode, 16),
        },
    }
    log.info("%s", result)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / f"{NAME}.json").write_text(json.dumps(result, indent=1) + "\n")
    sheet = side_by_side(teacher, student, held_out[:SHOWN])
    path = str(given.out / f"{NAME}.png")
    cv2.imwrite(path, sheet[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])


def _decoder_of(spec: ModelSpec) -> Callable[[Tensor], Tensor]:
    return build_codec(spec).decode


if __name__ == "__main__":
    main()
