"""The U-Net: small networks in numbers, full-size ones in keys and counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.conformance.checks import Report
from benchmarks.conformance.folder import (
    COMPUTED_BUFFERS,
    Case,
    FixtureError,
    fill_by_rule,
    lookup,
    optional,
    state_hash,
    state_shapes,
)
from engine.errors import ConfigError
from engine.models.temporal import MotionModule
from engine.models.unet import UNet3DConditionModel
from engine.spec import UNetSpec

PROBE_FACTOR = 5.0  # on the output's tolerance: probes locate a difference, the output judges

# What the network has one way only: a configuration that asks for another is refused.
_FIXED: dict[str, tuple[Any, ...]] = {
    "act_fn": ("silu",),
    "add_audio_layer": (True,),
    "center_input_sample": (False,),
    "mid_block_type": ("UNetMidBlock3DCrossAttn",),
    "downsample_padding": (1,),
    "flip_sin_to_cos": (True,),
    "freq_shift": (0,),
    "mid_block_scale_factor": (1,),
    "norm_eps": (1e-5,),
    "use_motion_module": (True,),
    "motion_module_mid_block": (False,),
    "motion_module_type": ("Vanilla",),
    "resnet_time_scale_shift": ("default", "scale_shift"),
}
_FIXED_MOTION: dict[str, tuple[Any, ...]] = {
    "num_transformer_block": (1,),
    "attention_block_types": (["Temporal_Self", "Temporal_Self"],),
    "temporal_position_encoding": (True,),
    "temporal_attention_dim_div": (1,),
}


def unet_spec(config: dict[str, Any], where: str) -> UNetSpec:
    """The spec of a published configuration's model section.

    Raises:
        FixtureError: a value is absent, or asks for what this network has not.
    """
    motion = lookup(config, "motion_module_kwargs", where)
    for part, fixed in ((config, _FIXED), (motion, _FIXED_MOTION)):
        for key, choices in fixed.items():
            if key in part and part[key] not in choices:
                raise FixtureError(f"{where}: {key} = {part[key]!r}, expected one of {choices}")
    kinds = lookup(config, "down_block_types", where)
    attention = tuple(kind.startswith("CrossAttn") for kind in kinds)
    up_kinds = config.get("up_block_types", kinds[::-1])
    if tuple(kind.startswith("CrossAttn") for kind in up_kinds) != attention[::-1]:
        raise FixtureError(f"{where}: expected up blocks that mirror the down blocks")
    try:
        return UNetSpec(
            in_channels=lookup(config, "in_channels", where),
            out_channels=lookup(config, "out_channels", where),
            block_out_channels=tuple(lookup(config, "block_out_channels", where)),
            attention_blocks=attention,
            layers_per_block=lookup(config, "layers_per_block", where),
            attention_heads=lookup(config, "attention_head_dim", where),
            cross_attention_dim=lookup(config, "cross_attention_dim", where),
            norm_num_groups=lookup(config, "norm_num_groups", where),
            motion_heads=lookup(motion, "num_attention_heads", where),
            motion_positions=lookup(motion, "temporal_position_encoding_max_len", where),
            motion_decoder_only=lookup(config, "motion_module_decoder_only", where),
            per_frame_norm=bool(config.get("use_inflated_groupnorm", False)),
            time_scale_shift=config.get("resnet_time_scale_shift") == "scale_shift",
        )
    except ConfigError as error:
        raise FixtureError(f"{where}: {error}") from error


def rule_unet(config: dict[str, Any], seed: int, where: str, device: str) -> UNet3DConditionModel:
    """The configured network with rule weights."""
    unet = UNet3DConditionModel(unet_spec(config, where)).eval().requires_grad_(False)
    fill_by_rule(unet, seed)
    return unet.to(device)


class Probe:
    """Keeps what one inner module gives out during a pass."""

    def __init__(self, unet: nn.Module, name: str) -> None:
        try:
            module = unet.get_submodule(name)
        except AttributeError as error:
            raise FixtureError(f"probe {name!r}: the network has no such module") from error
        self.output: Tensor | None = None
        self.handle = module.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _args: Any, output: Any) -> None:
        self.output = output[0] if isinstance(output, tuple) else output

    def value(self, shape: list[int]) -> Tensor | None:
        """The output in the layout that the fixture stores, or None if it cannot have it."""
        out = self.output
        if out is None or out.numel() != np.prod(shape):
            return None
        if len(shape) == 5 and out.ndim == 4:  # [b * f, c, h, w] here, [b, c, f, h, w] there
            batch, channels, frames, height, width = shape
            if tuple(out.shape) != (batch * frames, channels, height, width):
                return None
            return out.reshape(batch, frames, channels, height, width).transpose(1, 2)
        return out.reshape(shape)


@torch.no_grad()
def check_unet(case: Case, report: Report, device: str) -> None:
    """Every subcase's output and probes."""
    unet = rule_unet(case.get("config"), case.get("weight_seed"), case.name, device)
    report.equal(case.name, "weights", state_hash(unet.state_dict()), case.get("state_dict_sha256"))
    default = 2e-5 if device == "cpu" else 1e-4
    for name, sub in case.get("subcases").items():
        where = f"{case.name}/{name}"
        sample, audio = case.tensor(f"{name}.sample"), case.tensor(f"{name}.audio")
        context = lookup(sub, "encoder_hidden_states", where)
        if context.startswith("cat([zeros_like(audio), audio])"):
            audio = torch.cat([torch.zeros_like(audio), audio])
        elif context != "audio":
            raise FixtureError(f"{where}: unknown audio context {context!r}")
        report.equal(where, "sample shape", list(sample.shape), optional(sub, "sample_shape"))
        stored_shape = optional(sub, "encoder_hidden_states_shape")
        report.equal(where, "audio shape", list(audio.shape), stored_shape)
        probes = {key: Probe(unet, key) for key in sub.get("probes", {})}
        timestep = torch.full((sample.shape[0],), float(lookup(sub, "timestep", where)))
        output = unet(sample.to(device), timestep.to(device), audio.to(device)).cpu()
        tolerance = case.tolerance("output", default, sub)
        report.close(where, "output", output, case.tensor(f"{name}.output"), tolerance)
        for key, probe in probes.items():
            probe.handle.remove()
            _check_probe(report, where, key, probe, sub["probes"][key], tolerance)


def _check_probe(
    report: Report, case: str, key: str, probe: Probe, stored: dict[str, Any], tolerance: float
) -> None:
    shape = lookup(stored, "shape", case)
    value = probe.value(shape)
    if value is None:
        found = None if probe.output is None else list(probe.output.shape)
        report.problem(case, key, f"expected an output like {shape}, got {found}")
        return
    flat = value.double().cpu().reshape(-1)
    index = lookup(stored, "flat_index", case)
    have = torch.stack([flat.mean(), flat.std(correction=0), *flat[index]])
    want: list[float] = [lookup(stored, "mean", case), lookup(stored, "std", case)]
    want += lookup(stored, "values", case)
    # Inner values are larger than the output's, and noisier where the variance is small.
    scale = max(1.0, abs(want[0]), want[1], *map(abs, want[2:]))
    report.close(case, f"probe {key}", have, want, PROBE_FACTOR * tolerance * scale)


def check_unet_manifest(name: str, data: dict[str, Any], report: Report) -> None:
    """Keys, shapes and counts of a full-size network, without its memory."""
    with torch.device("meta"):
        unet = UNet3DConditionModel(unet_spec(lookup(data, "config", name), name))
    shapes = state_shapes(unet)
    report.equal(name, "keys and shapes", shapes, lookup(data, "keys", name))
    buffers = [key for key in shapes if key.endswith(COMPUTED_BUFFERS)]
    stored = lookup(data, "computed_buffers", name)
    report.equal(name, "computed buffers", sorted(buffers), sorted(stored))
    parameters = dict(unet.named_parameters())
    counts = lookup(data, "counts", name)
    parts = lookup(counts, "trainable_modules", name)
    trained = [p for key, p in parameters.items() if any(part in key for part in parts)]
    temporal = [p.numel() for key, p in parameters.items() if "motion_modules." in key]
    have = {
        "parameters_total": sum(p.numel() for p in parameters.values()),
        "parameters_temporal(name contains 'motion_modules.')": sum(temporal),
        "trainable_modules": parts,
        "parameters_trainable": sum(p.numel() for p in trained),
        "trainable_parameter_tensors": len(trained),
        "parameter_tensors": len(parameters),
        "state_dict_entries": len(shapes),
        "buffer_entries (pos_encoder.pe)": len(buffers),
        "buffer_elements": sum(int(np.prod(shapes[key])) for key in buffers),
        "motion_modules": sum(isinstance(m, MotionModule) for m in unet.modules()),
    }
    report.equal(name, "counts", {key: have.get(key) for key in counts}, counts)
