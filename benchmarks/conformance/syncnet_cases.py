"""The sync network: a small one in numbers, the full-size one in keys and counts."""

from __future__ import annotations

import re
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from benchmarks.conformance.checks import Report
from benchmarks.conformance.folder import (
    Case,
    FixtureError,
    fill_by_rule,
    lookup,
    state_hash,
    state_shapes,
)
from engine.models.syncnet import BranchSpec, StableSyncNet


def _branch(config: dict[str, Any], where: str) -> BranchSpec:
    factors = lookup(config, "downsample_factors", where)
    return BranchSpec(
        in_channels=lookup(config, "in_channels", where),
        block_out_channels=tuple(lookup(config, "block_out_channels", where)),
        downsample_factors=tuple(tuple(f) if isinstance(f, list) else f for f in factors),
        attn_blocks=tuple(bool(flag) for flag in lookup(config, "attn_blocks", where)),
    )


def syncnet(config: dict[str, Any], where: str) -> StableSyncNet:
    """The network of a configuration's model section."""
    return StableSyncNet(
        _branch(lookup(config, "audio_encoder", where), where),
        _branch(lookup(config, "visual_encoder", where), where),
    )


@torch.no_grad()
def check_syncnet(case: Case, report: Report, device: str) -> None:
    """Embeddings of both encoders and their cosine."""
    net = syncnet(case.get("config"), case.name).eval().requires_grad_(False)
    report.equal(case.name, "keys and shapes", state_shapes(net), case.optional("keys"))
    fill_by_rule(net, case.get("weight_seed"))
    report.equal(case.name, "weights", state_hash(net.state_dict()), case.get("state_dict_sha256"))
    match = re.search(r"enlargement by (\d+)", case.get("visual_input"))
    if match is None:
        raise FixtureError(f"{case.name}.json: expected visual_input to name its enlargement")
    frames = F.interpolate(case.tensor("visual_base"), scale_factor=float(match[1]))
    mel = case.tensor("audio")
    report.equal(case.name, "audio shape", list(mel.shape), case.optional("audio_input_shape"))
    net, frames, mel = net.to(device), frames.to(device), mel.to(device)
    plain = net.features(frames, mel)
    unit = net(frames, mel)
    tolerance = case.tolerance("embedding", 1e-5 if device == "cpu" else 5e-5)
    for index, branch in enumerate(("visual", "audio")):
        stored = case.tensor(f"{branch}_embedding")
        report.close(case.name, f"{branch}_embedding", unit[index].cpu(), stored, tolerance)
        stored = case.tensor(f"{branch}_unnormalised")
        # The tolerance is that of unit vectors: these are longer.
        scale = max(1.0, float(stored.norm(dim=1).max()))
        quantity = f"{branch}_unnormalised"
        report.close(case.name, quantity, plain[index].cpu(), stored, tolerance * scale)
    cosine = (unit[0] * unit[1]).sum(dim=1).cpu()
    report.close(case.name, "cosine", cosine, case.optional("cosine_similarity"), tolerance)


def check_syncnet_manifest(name: str, data: dict[str, Any], report: Report) -> None:
    """Keys, shapes and counts of the full-size network, without its memory."""
    with torch.device("meta"):
        net = syncnet(lookup(data, "config", name), name)
    shapes = state_shapes(net)
    report.equal(name, "keys and shapes", shapes, lookup(data, "keys", name))
    counts = lookup(data, "counts", name)
    sizes = {
        "total": sum(p.numel() for p in net.parameters()),
        "audio_encoder": sum(p.numel() for p in net.audio_encoder.parameters()),
        "visual_encoder": sum(p.numel() for p in net.visual_encoder.parameters()),
    }
    have = {f"parameters_{part}": size for part, size in sizes.items()}
    have["state_dict_entries"] = len(shapes)
    report.equal(name, "counts", {key: have.get(key) for key in counts}, counts)
