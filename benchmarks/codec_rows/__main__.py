"""How near a decode of the shown rows comes to a decode of the whole picture, and what it saves.

    python -m benchmarks.codec_rows

teaches a small KL codec the bundled avatars for 3 minutes of one core, decodes
talking faces with it, whole and by rows, and counts FLOPs of the published
size. JSON and a picture of the differences go to benchmarks/results.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.codec_rows.measure import (
    LEVELS,
    Clip,
    Difference,
    FrozenWalk,
    NaiveWalk,
    UnmovedWalk,
    middle_of_hop,
    worst,
)
from benchmarks.codec_rows.small_vae import (
    SMALL,
    load_small_vae,
    save_small_vae,
    train_small_vae,
)
from benchmarks.codec_rows.talking_faces import NAMES, as_network_sees, talking_crops
from benchmarks.report import here
from engine.checkpoints import load_codec
from engine.errors import ModelError
from engine.face.align import latentsync_face
from engine.face.mask import paste_weights
from engine.models.decode_rows import Rows
from engine.models.kl_vae import KlCodec
from engine.models.row_decoder import RowDecoder
from engine.models.taesd import TaesdCodec
from engine.spec import CodecSpec, ModelSpec

logger = logging.getLogger(__name__)

NAME = "codec_rows"
RESOLUTION = 256
TRAINING_FRAMES, TRAINING_SEED, SEED = 24, 7, 11
AGES = (1, 2, 4, 8, 25)  # frames
AMPLIFIED = 64  # so that two levels of difference reach mid grey


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.codec_rows",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--train-s", type=float, default=180.0, help="CPU time of the training")
    parser.add_argument("--frames", type=int, default=84, help="of each avatar's clip")
    parser.add_argument("--weights", type=Path, help="a codec: read, or kept there if absent")
    parser.add_argument("--model", type=Path, help="a folder whose KL codec is measured instead")
    parser.add_argument("--device", default="cpu", help="where --model's codec runs")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    command = "python -m benchmarks.codec_rows"
    result: dict[str, Any] = {"circumstances": asdict(here(command, sys.argv[1:]))}
    result["gflop_a_frame"] = flops()
    if given.model is None:
        codec, about = small_vae(given.weights, given.train_s)
    else:
        codec, about = of_model(given.model, given.device)
    with torch.no_grad():
        result["random_weights"] = random_weights()
        crops = {name: talking_crops(name, RESOLUTION, given.frames, SEED) for name in NAMES}
        pictures = {name: as_network_sees(own).to(given.device) for name, own in crops.items()}
        clips = {name: clip_of(codec, own) for name, own in pictures.items()}
        errors = [((clips[name].pictures - pictures[name]) ** 2).mean() for name in NAMES]
        psnr_db = 10.0 * math.log10(4.0 / float(sum(errors) / len(errors)))
        result["codec"] = {**about, "psnr_db": round(psnr_db, 2)}
        result["levels_from_the_whole"], shown = by_moments(clips)
        result["levels_by_whole_levels"] = by_whole_levels(clips)
        result["levels_by_norm"] = by_norm(clips)
        result["bf16"] = in_bf16(clips)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"{NAME}.json"
    path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    cv2.imwrite(str(given.out / f"{NAME}.png"), shown)
    logger.info("%s", json.dumps(result, indent=1))


def flops() -> dict[str, Any]:
    """GFLOP a frame at the published size, whole and by rows."""
    kinds = {"kl": CodecSpec(), "taesd": CodecSpec(kind="taesd", scaling_factor=1.0)}
    counts: dict[str, Any] = {}
    for resolution in (256, 512):
        rows = Rows.shown(paste_weights(latentsync_face(resolution), resolution))
        size = resolution // 8
        for kind, spec in kinds.items():
            with torch.device("meta"):
                codec = KlCodec(spec) if kind == "kl" else TaesdCodec(spec)
                latents = torch.zeros(8, 4, size, size)
            own: dict[str, Any] = {"rows": [rows.first, rows.end]}
            own["whole"] = _gflop(codec.decode, latents[:1])
            for levels in range(4):
                decoder = RowDecoder(codec, rows, levels)
                moments = torch.zeros(1, *decoder.moments_shape, device="meta")
                own[f"rows, {levels} levels whole"] = _gflop(
                    decoder.decode_rows, latents[:1], moments
                )
            decoder = RowDecoder(codec, rows)
            for hop in (2, 4, 8):
                own[f"decode_hops, hop {hop}"] = round(
                    _gflop(decoder.decode_hops, latents[None, :hop]) / hop, 1
                )
            counts[f"{kind} {resolution}"] = own
    return counts


def small_vae(path: Path | None, seconds: float) -> tuple[KlCodec, dict[str, str]]:
    """The trained codec, and how it came about."""
    if path is not None and path.is_file():
        return load_small_vae(path)
    crops = [talking_crops(name, RESOLUTION, TRAINING_FRAMES, TRAINING_SEED) for name in NAMES]
    codec, steps = train_small_vae(as_network_sees(np.concatenate(crops)), seconds)
    about = {"widths": str(SMALL.block_out_channels), "cpu_s": str(seconds), "steps": str(steps)}
    if path is not None:
        save_small_vae(codec, path, about)
    return codec.to(memory_format=torch.contiguous_format), about  # type: ignore[call-overload]


def of_model(folder: Path, device: str) -> tuple[KlCodec, dict[str, str]]:
    """The codec of a model folder.

    Raises:
        ModelError: it is not a KL codec with its own decoder, or cannot be loaded.
    """
    spec = ModelSpec.read(folder)
    codec = load_codec(folder, spec, device)
    if not isinstance(codec, KlCodec):
        raise ModelError(f"{folder}: expected a KL codec with its own decoder")
    return codec, {"model": spec.name, "device": device}


def random_weights() -> dict[str, Any]:
    """Rows with their own moments against the whole, full size, as a share of its spread."""
    torch.manual_seed(0)
    codec = KlCodec(CodecSpec()).eval()
    rows = Rows.shown(paste_weights(latentsync_face(RESOLUTION), RESOLUTION))
    decoder = RowDecoder(codec, rows)
    latents = torch.randn(1, 4, 32, 32)
    picture, moments = decoder.decode_with_moments(latents)
    strip = decoder.decode_rows(latents, moments)
    off = (strip - picture[:, :, rows.first : rows.end]).abs().max()
    return {"full size, f32, own moments: largest difference / std": float(off / picture.std())}


def clip_of(codec: KlCodec, pictures: Tensor) -> Clip:
    """The clip of pictures [n, 3, R, R] as the codec gives them back."""
    latents = torch.cat([codec.encode(part) for part in torch.split(pictures, 8)])
    weights = torch.from_numpy(paste_weights(latentsync_face(RESOLUTION), RESOLUTION))
    return Clip(codec, latents, weights.to(pictures.device))


def by_moments(clips: dict[str, Clip]) -> tuple[dict[str, Any], Any]:
    """The worst difference over all clips, by where moments are from; and a picture of some."""
    found: dict[str, Difference] = {}
    shown: list[Any] = []
    every = [_variants(clip) for clip in clips.values()]
    for variant in every[0]:
        parts = [own[variant] for own in every]
        found[variant] = worst(summary for summary, _ in parts)
        logger.info("%-34s %s", variant, asdict(found[variant]))
    for clip, own in zip(clips.values(), every, strict=True):
        frame = int(own["held for 25 frames"][1].amax(dim=(1, 2, 3)).argmax())
        picture = (clip.pictures[_measured(clip)[frame]] + 1.0) * LEVELS
        row = [picture]
        for variant in ("middle of a hop of 4", "held for 25 frames", "the inside's for all"):
            rows = clip.decoder.rows
            canvas = torch.zeros_like(picture)
            canvas[:, rows.first : rows.end] = AMPLIFIED * own[variant][1][frame]
            row.append(canvas)
        shown.append(torch.cat(row, dim=2))
    stacked = torch.cat(shown, dim=1).clamp(0.0, 255.0).byte().permute(1, 2, 0).cpu().numpy()
    small = cv2.resize(stacked, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return {key: _rounded(one) for key, one in found.items()}, small[:, :, ::-1]


def _measured(clip: Clip) -> list[int]:
    """Frames with enough others before and a whole hop of 8 around them."""
    return list(range(max(AGES), len(clip.latents) - 8, 3))


def _variants(clip: Clip) -> dict[str, tuple[Difference, Tensor]]:
    frames = _measured(clip)
    own = clip.moments
    variants = {"own": clip.difference(frames, own[frames])}
    for hop in (4, 8):
        variants[f"middle of a hop of {hop}"] = clip.difference(
            frames, own[middle_of_hop(frames, hop)]
        )
    variants["middle of a hop of 4, unmoved"] = clip.difference(
        frames, own[middle_of_hop(frames, 4)], UnmovedWalk
    )
    for age in AGES:
        variants[f"held for {age} frames"] = clip.difference(
            frames, own[[frame - age for frame in frames]]
        )
    before = [own[frame - 25 : frame].mean(dim=0) for frame in frames]
    variants["mean of the last 25 frames"] = clip.difference(frames, torch.stack(before))
    dark = clip.codec.encode(0.8 * (clip.pictures[frames] + 1.0) - 1.0)
    moments = torch.cat([clip.decoder.decode_with_moments(one)[1] for one in torch.split(dark, 1)])
    variants["own, of light dimmed by a fifth"] = clip.difference(frames, moments)
    variants["the same, unmoved"] = clip.difference(frames, moments, UnmovedWalk)
    held = clip.whole_moments(frame - 4 for frame in frames)
    variants["the whole's, held for 4 frames"] = clip.difference(frames, held, FrozenWalk)
    variants["the inside's for all"] = clip.difference(frames, own[frames], NaiveWalk)
    return variants


def by_whole_levels(clips: dict[str, Clip]) -> dict[str, Any]:
    """Moments held for 4 frames, by how many resolutions are decoded whole."""
    found = {}
    for levels in range(4):
        parts = []
        for clip in clips.values():
            short = Clip(clip.codec, clip.latents[:24], clip.weights, levels)
            frames = list(range(4, 24, 2))
            parts.append(
                short.difference(frames, short.moments[[frame - 4 for frame in frames]])[0]
            )
        found[str(levels)] = _rounded(worst(parts))
    return found


def by_norm(clips: dict[str, Clip]) -> dict[str, Any]:
    """Moments held for 25 frames in some of the norms, the frame's own in the others."""
    found = {}
    norms = next(iter(clips.values())).moments.shape[1]
    for kind, held in (("last norm only", [norms - 1]), ("all but the last", range(norms - 1))):
        parts = []
        for clip in clips.values():
            frames = _measured(clip)
            moments = clip.moments[frames].clone()
            for norm in held:
                moments[:, norm] = clip.moments[[frame - 25 for frame in frames], norm]
            parts.append(clip.difference(frames, moments)[0])
        found[f"held for 25 frames in the {kind}"] = _rounded(worst(parts))
    return found


def in_bf16(clips: dict[str, Clip]) -> dict[str, Any]:
    """Rows with their own moments in bf16, and the whole in bf16, against the whole in f32."""
    off_whole: list[Tensor] = []
    off_rows: list[Tensor] = []
    apart: list[Tensor] = []
    for clip in clips.values():
        half = copy.deepcopy(clip.codec).to(torch.bfloat16)
        rows = clip.decoder.rows
        decoder = RowDecoder(half, rows)
        frames = slice(50, 54)
        latents = clip.latents[frames].to(torch.bfloat16)
        whole, moments = decoder.decode_with_moments(latents)
        strips = decoder.decode_rows(latents, moments).float().clamp(-1.0, 1.0)
        whole = whole.float().clamp(-1.0, 1.0)[:, :, rows.first : rows.end]
        exact = clip.pictures[frames][:, :, rows.first : rows.end]
        for kept, pair in (
            (off_whole, whole - exact),
            (off_rows, strips - exact),
            (apart, strips - whole),
        ):
            kept.append(LEVELS * pair.abs().max())
    names = ("whole bf16 - whole f32", "rows bf16 - whole f32", "rows bf16 - whole bf16")
    measured = (off_whole, off_rows, apart)
    return {name: round(float(max(kept)), 3) for name, kept in zip(names, measured, strict=True)}


def _gflop(call: Any, *inputs: Tensor) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(*inputs)
    return round(float(counter.get_total_flops()) / 1e9, 1)


def _rounded(difference: Difference) -> dict[str, float]:
    return {key: round(value, 4) for key, value in asdict(difference).items()}


if __name__ == "__main__":
    main()
