"""The published size, from checkpoint files to generated frames, with its memory and times.

    python -m benchmarks.full_size --json benchmarks/results/full_size.json
    python -m benchmarks.full_size --small          # the same in seconds, at a small size

Makes checkpoints of the published layout and size (rule weights: `tests/golden/latentsync`),
has `lipwire fetch`'s own code verify and convert them, loads the model and runs it. Each stage
is a process of its own, so that its peak memory is its own. Needs 14 GB of disk and of memory;
exits with 1 if a check fails.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.conformance.checks import Report
from benchmarks.conformance.folder import COMPUTED_BUFFERS, read_json, rule_value
from benchmarks.conformance.unet_cases import check_unet_manifest
from engine.backends.base import HopInput
from engine.backends.torch_backend import TorchBackend
from engine.checkpoints import file_digest
from engine.denoise.model import TorchModel
from engine.models.build import build_audio_encoder, build_codec, build_unet
from engine.models.temporal import position_table
from engine.models.unet import UNet3DConditionModel
from engine.models.weight_files import WeightFile, write_safetensors
from engine.models.whisper import sinusoids
from engine.published import LATENTSYNC_1_5, HubFile, PublishedModel
from engine.spec import CodecSpec, ModelSpec
from server.commands.fetch import fetch
from server.commands.hub import Progress
from server.commands.model_folder import DOWNLOADS, FetchOptions

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "latentsync"
MANIFESTS = ("unet_stage2_manifest", "unet_stage2_efficient_manifest")
SEED = 0
WHISPER_POSITIONS = 1500
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
HOP, WINDOW, CLIP = 4, 16, 20  # frames; the clip outlasts the window, so rings wrap
# Of the output's rms; without the moments that are carried, hops must miss by more.
EXACT = 1e-4

SMALL = dataclasses.replace(
    LATENTSYNC_1_5,
    resolution=64,
    unet=dataclasses.replace(LATENTSYNC_1_5.unet, block_out_channels=(32, 64, 96, 96)),
    codec=CodecSpec(kind="tiny", width=8, blocks=1),
)


def memory_mb() -> dict[str, int]:
    """Peak and present resident memory of this process, in MB; file mappings count."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    kilobytes = {name: int(re.findall(rf"{name}:\s+(\d+)", status)[0]) for name in _MEMORY}
    return {key: kilobytes[name] * 1024 // 1_000_000 for name, key in _MEMORY.items()}


_MEMORY = {"VmHWM": "peak_rss_mb", "VmRSS": "rss_mb"}


class Clock:
    """Seconds of named steps: by the wall, and of this process on all cores.

    The second is what other work on the machine disturbs less.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Times what is done inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds[f"{name}_s"] = round(time.perf_counter() - wall, 2)
        self.seconds[f"{name}_cpu_s"] = round(time.process_time() - cpu, 2)


def rule_tensor(key: str, shape: tuple[int, ...]) -> Tensor:
    """A published checkpoint's entry: rule values, and real tables of positions."""
    if key.endswith("pos_encoder.pe"):
        return position_table(shape[2], shape[1])
    if key.endswith("positional_embedding"):
        return sinusoids(*shape)
    return torch.from_numpy(rule_value(key, shape, SEED))


def shapes_of(make: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of what `make` builds, without its memory."""
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in make().state_dict().items()}


def stage_manifests(_spec: ModelSpec, _work: Path) -> dict[str, Any]:
    """Keys, shapes and counts of both published configurations."""
    result: dict[str, Any] = {"ok": True}
    for name in MANIFESTS:
        manifest = read_json(GOLDEN / f"{name}.json.gz")
        report = Report()
        check_unet_manifest(name, manifest, report)
        result[name] = {
            "parameters": manifest["counts"]["parameters_total"],
            "entries": manifest["counts"]["state_dict_entries"],
            "failures": [check.line() for check in report.checks if not check.ok],
        }
        result["ok"] &= report.ok
    return result


def stage_checkpoints(spec: ModelSpec, work: Path) -> dict[str, Any]:
    """Files as the hub has them, in the place of `lipwire fetch`'s downloads."""
    clock = Clock()
    downloads = work / DOWNLOADS
    downloads.mkdir()
    with clock.step("unet_pt"):
        shapes = shapes_of(lambda: build_unet(spec))
        state = {key: rule_tensor(key, shape) for key, shape in shapes.items()}
        torch.save({"global_step": 0, "state_dict": state}, downloads / "latentsync_unet.pt")
        del state
    with clock.step("others"):
        whisper = shapes_of(lambda: build_audio_encoder(spec))
        whisper["encoder.positional_embedding"] = (WHISPER_POSITIONS, spec.audio.width)
        whisper["decoder.token_embedding.weight"] = (51_865, spec.audio.width)
        half = {key: rule_tensor(key, shape).half() for key, shape in whisper.items()}
        torch.save({"dims": {}, "model_state_dict": half}, downloads / "tiny.pt")
        codec = shapes_of(lambda: build_codec(spec))
        old = {old_codec_key(key): key for key in codec}
        write_safetensors(
            downloads / "diffusion_pytorch_model.safetensors",
            {name: (codec[key], torch.float32) for name, key in old.items()},
            ((name, rule_tensor(key, codec[key])) for name, key in old.items()),
        )
    with clock.step("digests"):
        files = []
        for path in sorted(downloads.iterdir()):
            file = HubFile("rule/weights", path.name, path.stat().st_size, file_digest(path))
            path.rename(downloads / f"{file.sha256[:16]}-{file.name}")
            files.append(dataclasses.asdict(file))
    (work / "files.json").write_text(json.dumps(files))
    stored = WeightFile(next(downloads.glob("*-latentsync_unet.pt"))).shapes
    manifest = read_json(GOLDEN / f"{MANIFESTS[0]}.json.gz")
    same = {key: list(shape) for key, shape in stored.items()} == manifest["keys"]
    return {
        "ok": same or spec.unet != LATENTSYNC_1_5.unet,
        "unet_bytes": max(file["size"] for file in files),
        "unet_entries": len(stored),
        "unet_keys_are_the_manifests": same,
        **clock.seconds,
    }


def old_codec_key(key: str) -> str:
    """The name that sd-vae-ft-mse has for a key of the codec."""
    for new, old in OLD_ATTENTION.items():
        key = key.replace(f".attentions.0.{new}.", f".attentions.0.{old}.")
    return key


def stage_convert(spec: ModelSpec, work: Path) -> dict[str, Any]:
    """What `lipwire fetch` does once everything is downloaded: verify, convert, record."""
    files = {
        file["path"]: HubFile(**file) for file in json.loads((work / "files.json").read_text())
    }
    published = PublishedModel(
        spec=spec,
        unet=files["latentsync_unet.pt"],
        audio_encoder=files["tiny.pt"],
        codec=files["diffusion_pytorch_model.safetensors"],
    )
    clock = Clock()
    before = memory_mb()["rss_mb"]
    with clock.step("fetch"):
        fetched = fetch(published, work, FetchOptions(), Progress(quiet=True))
    with clock.step("second_run"):
        again = fetch(published, work, FetchOptions(), Progress(quiet=True))
    return {
        "ok": fetched.made and not again.made,
        "stored_bytes": fetched.stored_bytes,
        "rss_before_mb": before,
        **clock.seconds,
    }


def stage_load(spec: ModelSpec, work: Path, precision: str) -> dict[str, Any]:
    """The model in memory; its weights are the rule's, through f16."""
    clock = Clock()
    before = memory_mb()["rss_mb"]
    with clock.step("load"):
        model = TorchModel.load(work / spec.name, torch.device("cpu"), precision)
    state = model.unet.state_dict()
    sample = sorted(state)[:: max(len(state) // 40, 1)]
    wrong = [
        key
        for key in sample
        if not key.endswith(COMPUTED_BUFFERS)
        and not torch.equal(
            state[key], rule_tensor(key, tuple(state[key].shape)).half().to(model.dtype)
        )
    ]
    networks = (model.unet, model.codec, model.audio_encoder)
    weights = sum(value.nbytes for network in networks for value in network.state_dict().values())
    return {
        "ok": not wrong,
        "unet_parameters": sum(value.numel() for value in model.unet.parameters()),
        "weights_mb": weights // 1_000_000,
        "rss_before_mb": before,
        "keys_compared": len(sample),
        "keys_wrong": wrong,
        **clock.seconds,
    }


@torch.inference_mode()
def stage_network(spec: ModelSpec, work: Path) -> dict[str, Any]:
    """The U-Net alone: hops against the block-causal clip, and one whole window."""
    clock = Clock()
    model = TorchModel.load(work / spec.name, torch.device("cpu"), "f32")
    unet = model.unet
    clip = inputs(spec, CLIP, size=8)
    with clock.step(f"clip_{CLIP}_frames_8x8"):
        whole = unet.forward_clip(*clip, hop=HOP, window=WINDOW)
    with clock.step(f"hops_{CLIP}_frames_8x8"):
        hops = run_hops(unet, *clip)
    sample, timestep, audio = clip
    two = 2 * HOP
    dropped = run_hops(unet, sample[:, :, :two], timestep, audio[:, :two], moments=False)
    scale = float(whole.square().mean().sqrt())
    error = float((hops - whole).abs().max()) / scale
    without = float((dropped - whole[:, :, :two])[:, :, HOP:].square().mean().sqrt()) / scale
    window = inputs(spec, WINDOW, size=spec.latent_size)
    name = f"window_{WINDOW}_frames_{spec.latent_size}x{spec.latent_size}"
    with clock.step(name):
        out = unet(*window)
    rms = float(out.square().mean().sqrt())
    return {
        "ok": error < EXACT < without and bool(torch.isfinite(out).all()) and 0.1 < rms < 10.0,
        "clip_rms": scale,
        "hops_error": error,
        "hops_error_without_moments_rms": without,
        "window_rms": rms,
        **clock.seconds,
    }


def inputs(spec: ModelSpec, frames: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Noise in every place: sample, timestep, audio."""
    generator = torch.Generator().manual_seed(SEED)
    sample = torch.randn(1, spec.unet.in_channels, frames, size, size, generator=generator)
    audio = torch.randn(1, frames, spec.audio.tokens, spec.audio.width, generator=generator)
    return sample, torch.tensor([float(spec.timesteps[-1])]), audio


def run_hops(
    unet: UNet3DConditionModel,
    sample: Tensor,
    timestep: Tensor,
    audio: Tensor,
    *,
    moments: bool = True,
) -> Tensor:
    """A clip in hops, the context carried in rings.

    Args:
        moments: False: the norms forget the frames before the hop, which must show.
    """
    context = WINDOW - HOP
    valid = sample.new_zeros(1, context)
    keys = [(2, context, *shape) for shape in unet.ring_shapes(sample.shape[-1])]
    norms = [(2, context, groups) for groups in unet.moment_shapes()]
    rings = [sample.new_zeros(1, *shape) for shape in (*keys, *norms)]
    parts = []
    for start in range(0, sample.shape[2], HOP):
        new = slice(start, start + HOP)
        out, fresh = unet.forward_hop(sample[:, :, new], timestep, audio[:, new], valid, rings)
        rings = [
            torch.cat([ring, own], dim=2)[:, :, -context:]
            for ring, own in zip(rings, fresh, strict=True)
        ]
        if not moments:
            for ring, own in zip(rings[len(keys) :], fresh[len(keys) :], strict=True):
                ring.copy_(own.mean(dim=2, keepdim=True).expand_as(ring))
        valid = torch.cat([valid, valid.new_ones(1, HOP)], dim=1)[:, -context:]
        parts.append(out)
    return torch.cat(parts, dim=2)


def stage_hop(spec: ModelSpec, work: Path) -> dict[str, Any]:
    """One hop of one frame through the backend: encode, tokens, both steps, decode."""
    clock = Clock()
    model = TorchModel.load(work / spec.name, torch.device("cpu"), "f32")
    backend = TorchBackend(model, spec)
    size = spec.resolution
    crops = np.random.default_rng(SEED).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    with clock.step("encode_twice"):
        masked, reference = (backend.encode(crops, masked=flag) for flag in (True, False))
    state = backend.new_session(hop_frames=1, seed=SEED)
    mel = np.zeros((1, spec.audio.n_mels, spec.audio.mel_frames), np.float32)
    hop = HopInput(state=state, mel=mel, masked_latents=masked, ref_latents=reference)
    with clock.step("hop_of_1_frame"):
        frames = backend.run_hop([hop])[0].crops
    return {
        "ok": frames.shape == (1, size, size, 3) and int(frames.max()) > int(frames.min()),
        "mode": spec.carry,
        "timesteps": list(spec.timesteps),
        **clock.seconds,
    }


STAGES: dict[str, Callable[[ModelSpec, Path], dict[str, Any]]] = {
    "manifests": stage_manifests,
    "checkpoints": stage_checkpoints,
    "convert": stage_convert,
    "load_f32": lambda spec, work: stage_load(spec, work, "f32"),
    "load_bf16": lambda spec, work: stage_load(spec, work, "bf16"),
    "network": stage_network,
    "hop": stage_hop,
}


def run_stage(name: str, work: Path, *, small: bool, threads: int) -> dict[str, Any]:
    """A stage's result, from a process of its own."""
    command = [sys.executable, "-m", "benchmarks.full_size", "--stage", name, "--work", str(work)]
    command += ["--threads", str(threads), *(["--small"] if small else [])]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}  # everything is there already
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return {"ok": False, "exit_status": done.returncode}
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; 0 if every check holds."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.full_size",
        description=(__doc__ or "").split("\n\n")[0],
        epilog="example: python -m benchmarks.full_size --small",
    )
    parser.add_argument("--json", type=Path, help="write the result to a file")
    parser.add_argument("--small", action="store_true", help="a small network, in seconds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    parser.add_argument("--work", type=Path, help="folder for the files (a temporary one)")
    parser.add_argument("--stage", choices=list(STAGES), help="one stage, in this process")
    options = parser.parse_args(arguments)
    spec = SMALL if options.small else LATENTSYNC_1_5
    if options.stage:
        torch.set_num_threads(options.threads)
        result = STAGES[options.stage](spec, options.work)
        sys.stdout.write(json.dumps({**result, **memory_mb()}))
        return 0
    work = Path(tempfile.mkdtemp(prefix="lipwire-full-size-", dir=options.work))
    stages: dict[str, Any] = {}
    try:
        for name in STAGES:
            stages[name] = run_stage(name, work, small=options.small, threads=options.threads)
            sys.stderr.write(f"{name}: {json.dumps(stages[name])}\n")
    finally:
        shutil.rmtree(work)
    report = {
        "command": " ".join(["python -m benchmarks.full_size", *(arguments or sys.argv[1:])]),
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "torch": torch.__version__,
            "threads": options.threads,
            "python": platform.python_version(),
        },
        "model": spec.name,
        "small": options.small,
        "ok": all(stage["ok"] for stage in stages.values()),
        "stages": stages,
    }
    text = json.dumps(report, indent=2) + "\n"
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0 if report["ok"] else 1


def cpu_name() -> str:
    """As the system calls it."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = re.findall(r"model name\s*:\s*(.+)", info)
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    sys.exit(main())
