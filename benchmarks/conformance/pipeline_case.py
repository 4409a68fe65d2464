"""The published pipeline's inner loop: faces and audio tokens in, pictures out."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.conformance.checks import ABSENT, Report
from benchmarks.conformance.folder import (
    Case,
    FixtureError,
    fill_by_rule,
    lookup,
    optional,
    read_picture,
    state_hash,
    state_shapes,
)
from benchmarks.conformance.small_cases import PublishedSchedule
from benchmarks.conformance.unet_cases import rule_unet
from engine.audio.chunks import looped_frames
from engine.face.align import latentsync_face
from engine.face.mask import keep_mask
from engine.models.kl_vae import KlCodec
from engine.models.unet import UNet3DConditionModel
from engine.sampler import ddim_step
from engine.spec import CodecSpec

PICTURES = "pipeline_faces.png"
CODEC_BATCH = 16
_VAE_SIZES = (
    "block_out_channels",
    "latent_channels",
    "layers_per_block",
    "norm_num_groups",
    "scaling_factor",
)
_OVERRIDE = re.compile(r"([\w.]+)\[(\d+):(\d+)\] = (-?\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Scene:
    """What all runs share, frames last but for the pictures' own axes.

    Attributes:
        pictures: [F, 3, R, R] in [-1, 1].
        keep: [R, R], 1 = keep.
        mask, masked, ref: the network's input channels, [1, c, F, s, s].
        audio: [1, F, tokens, width].
        noise: [1, C, 1, s, s].
        windows: first and last frame (exclusive) of each.
    """

    pictures: Tensor
    keep: Tensor
    mask: Tensor
    masked: Tensor
    ref: Tensor
    audio: Tensor
    noise: Tensor
    windows: list[list[int]]


@torch.no_grad()
def check_pipeline(case: Case, report: Report, device: str) -> None:
    """Masks, latents, every run's loop and the pictures that come out."""
    for row in case.data.get("loop_video_indices", []):
        video = lookup(row, "video_frames", case.name)
        chunks = lookup(row, "audio_chunks", case.name)
        have, want = looped_frames(video, chunks), lookup(row, "indices", case.name)
        report.equal(case.name, f"loop of {video} frames to {chunks}", have, want)
    seed = case.get("unet_weight_seed")
    unet = rule_unet(case.get("unet_config"), seed, case.name, device)
    report.equal(case.name, "U-Net weights", state_hash(unet.state_dict()), case.get("unet_sha256"))
    codec = _rule_codec(case, report).to(device)
    scene = _scene(case, codec, report, device)
    for name in case.get("runs"):
        _check_run(case, name, scene, unet, codec, report)


def _rule_codec(case: Case, report: Report) -> KlCodec:
    config = dict(case.get("vae_config"))
    levels = len(lookup(config, "block_out_channels", case.name))
    fixed = {
        "in_channels": 3,
        "out_channels": 3,
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "act_fn": "silu",
        "shift_factor": 0,
    }
    for key, want in fixed.items():
        if (have := config.get(key) or 0) != want:
            raise FixtureError(f"{case.name}.json: expected {key} {want} of the VAE, got {have}")
    spec = CodecSpec(
        kind="kl",
        downscale=case.get("vae_scale_factor"),
        **{key: lookup(config, key, case.name) for key in _VAE_SIZES},
    )
    spec = replace(spec, block_out_channels=tuple(spec.block_out_channels))
    codec = KlCodec(spec).eval().requires_grad_(False)
    fill_by_rule(codec, case.get("vae_weight_seed"))
    for key, first, last, value in _OVERRIDE.findall(case.data.get("vae_override") or ""):
        state = codec.state_dict()
        if key not in state:
            raise FixtureError(f"{case.name}.json: vae_override names {key!r}, the VAE has none")
        state[key][int(first) : int(last)] = float(value)
    report.equal(case.name, "VAE weights", state_hash(codec.state_dict()), case.get("vae_sha256"))
    report.equal(case.name, "VAE keys and shapes", state_shapes(codec), case.optional("vae_keys"))
    return codec


def _scene(case: Case, codec: KlCodec, report: Report, device: str) -> Scene:
    count, size = case.get("frames"), case.get("resolution")
    stacked = read_picture(case.folder, PICTURES)
    if stacked.shape != (count * size, size, 3):
        raise FixtureError(f"{PICTURES}: expected {count} faces of {size}, got {stacked.shape}")
    # Contiguous: torch's group norm of channels-last memory is off by 1e-3 on a CPU.
    faces = torch.from_numpy(stacked.reshape(count, size, size, 3)).permute(0, 3, 1, 2).contiguous()
    pictures = ((faces.float() / 255.0 - 0.5) / 0.5).to(device)
    step = case.get("vae_scale_factor")
    keep = keep_mask(latentsync_face(size), size)
    latent_mask = np.ascontiguousarray(keep[::step, ::step])
    report.close(case.name, "mask_resized", keep, case.array("mask_resized"), 1e-6)
    report.close(case.name, "mask_latent", latent_mask, case.array("mask_latent"), 1e-6)
    stored = case.data.get("mask", {}).get("latent_distinct_values", [])  # at times in part
    if stored:
        have = np.unique(latent_mask)[: len(stored)]
        report.close(case.name, "mask's latent values", have, stored, 1e-6)
    share, distinct = ((keep > 0) & (keep < 1)).mean(), len(np.unique(keep))
    stored = case.optional("mask.resized_fraction_strictly_between_0_and_1")
    report.close(case.name, "mask's soft share", share, stored, 1e-9)
    report.equal(
        case.name, "mask's values", distinct, case.optional("mask.resized_distinct_values")
    )

    keep_tensor = torch.from_numpy(keep).to(device)
    masked, ref = _encode(codec, pictures * keep_tensor), _encode(codec, pictures)
    mask = torch.from_numpy(latent_mask).to(device).expand(1, 1, count, -1, -1)
    windows = case.get("windows")
    length = case.get("window")
    expected = [[a, min(a + length, count)] for a in range(0, count, length)]
    report.equal(case.name, "windows", expected, windows)
    tolerance = case.tolerance("vae_latents", 2e-5 if device == "cpu" else 1e-4)
    for key in case.tensors:
        if match := re.fullmatch(r"window(\d+)\.(masked|ref)_latents", key):
            first, last = windows[int(match[1])]
            value = (masked if match[2] == "masked" else ref)[:, :, first:last].cpu()
            report.close(case.name, key, value, case.tensor(key), tolerance)
    audio = case.tensor("audio_chunks")[None].to(device)
    noise = case.tensor("noise").to(device)
    return Scene(pictures, keep_tensor, mask, masked, ref, audio, noise, windows)


def _encode(codec: KlCodec, pictures: Tensor) -> Tensor:
    """[1, C, F, s, s] of pictures [F, 3, R, R]."""
    latents = [codec.encode(part) for part in _batches(pictures)]
    return torch.cat(latents).transpose(0, 1)[None]


def _batches(frames: Tensor) -> list[Tensor]:
    return [frames[at : at + CODEC_BATCH] for at in range(0, len(frames), CODEC_BATCH)]


def _check_run(
    case: Case,
    name: str,
    scene: Scene,
    unet: UNet3DConditionModel,
    codec: KlCodec,
    report: Report,
) -> None:
    where, run = f"{case.name}/{name}", case.get("runs")[name]
    cpu = scene.pictures.device.type == "cpu"
    steps = lookup(run, "num_inference_steps", where)
    schedule = PublishedSchedule(case.get("scheduler_config"), steps, where)
    report.equal(where, "timesteps", schedule.timesteps, lookup(run, "timesteps", where))
    guidance = lookup(run, "guidance_scale", where)
    finals = []
    first_tolerance = case.tolerance("first_step", 2e-5 if cpu else 2e-4, run)
    for index, (first, last) in enumerate(scene.windows):
        frames = slice(first, last)
        latents = scene.noise.expand(-1, -1, last - first, -1, -1)
        pairs = zip(schedule.alpha, schedule.alpha_next, strict=True)
        for step, pair in enumerate(pairs):
            noise = _predict(unet, scene, latents, frames, schedule.timesteps[step], guidance)
            latents = ddim_step(latents, noise, *pair)[0]
            key = f"{name}.window{index}_latents_after_first_step"
            if step == 0 and key in case.tensors:
                stored = case.tensor(key)
                report.close(where, _tail(name, key), latents.cpu(), stored, first_tolerance)
        finals.append(latents)
    final = torch.cat(finals, dim=2)
    tolerance = case.tolerance("final_latents", 5e-4 if cpu else 5e-3, run)
    stored = case.tensor(f"{name}.final_latents")
    report.close(where, "final_latents", final.cpu(), stored, tolerance)
    spread = float(final.cpu().double().std(correction=0))
    _close_share(
        report, where, "spread of final latents", spread, optional(run, "final_latents_std")
    )
    _check_pictures(case, name, scene, codec, final, report)


def _predict(
    unet: UNet3DConditionModel,
    scene: Scene,
    latents: Tensor,
    frames: slice,
    timestep: int,
    guidance: float,
) -> Tensor:
    """The noise in one window, guided against silence where the scale asks for it."""
    condition = [scene.mask[:, :, frames], scene.masked[:, :, frames], scene.ref[:, :, frames]]
    sample = torch.cat([latents, *condition], dim=1)
    audio = scene.audio[:, frames]
    if guidance > 1.0:
        sample = torch.cat([sample, sample])
        audio = torch.cat([torch.zeros_like(audio), audio])
    times = torch.full((sample.shape[0],), float(timestep), device=sample.device)
    noise: Tensor = unet(sample, times, audio)
    if guidance > 1.0:
        silent, speaking = noise.chunk(2)
        noise = silent + guidance * (speaking - silent)
    return noise


def _check_pictures(
    case: Case, name: str, scene: Scene, codec: KlCodec, final: Tensor, report: Report
) -> None:
    where, run = f"{case.name}/{name}", case.get("runs")[name]
    cpu = scene.pictures.device.type == "cpu"
    latents = final[0].transpose(0, 1)
    decoded = torch.cat([codec.decode(part) for part in _batches(latents)])
    tolerance = case.tolerance("decoded", 3e-3, run)
    for key in case.tensors:
        match = re.fullmatch(re.escape(name) + r"\.decoded_frame(\d+)_before_paste", key)
        if match:
            value = decoded[int(match[1])].cpu()
            report.close(where, _tail(name, key), value, case.tensor(key), tolerance)
    everything = decoded.cpu().double()
    _close_share(
        report,
        where,
        "spread of decoded",
        everything.std(correction=0),
        optional(run, "decoded_std"),
    )
    _close_share(
        report, where, "largest decoded", everything.abs().max(), optional(run, "decoded_abs_max")
    )
    pasted = decoded * (1.0 - scene.keep) + scene.pictures * scene.keep
    levels = ((pasted / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).to(torch.uint8)
    kept = levels[case.get("kept_frames")].permute(0, 2, 3, 1).cpu()
    stored = case.tensor(f"{name}.frames")
    tolerance = case.tolerance("frames_max", 2.0, run)
    report.close(where, "frames, levels", kept, stored, tolerance)
    tolerance = case.tolerance("frames_mean", 0.01 if cpu else 0.05, run)
    report.mean_close(where, "frames, mean levels", kept, stored, tolerance)


def _close_share(report: Report, case: str, quantity: str, value: Any, stored: Any) -> None:
    """Within a thousandth: summaries of numbers that are compared one by one elsewhere."""
    tolerance = 0.0 if stored is ABSENT else 1e-3 * abs(stored)
    report.close(case, quantity, value, stored, tolerance)


def _tail(name: str, key: str) -> str:
    return key.removeprefix(f"{name}.")
