"""What decoding costs, whole and only the rows that are shown: a part of the engine's run."""

from __future__ import annotations

import torch

from benchmarks.measure import Ceilings, count_flops, time_call
from engine.denoise.model import TorchModel
from engine.face.mask import paste_weights
from engine.models.build import build_codec
from engine.models.decode_rows import Rows
from engine.models.row_decoder import RowDecoder
from engine.models.tiny_codec import TinyCodec
from engine.spec import ModelSpec


@torch.inference_mode()
def measure_decoders(
    model: TorchModel,
    spec: ModelSpec,
    ceilings: Ceilings,
    frames: int,
    *,
    rounds: int,
    limit_s: float,
) -> list[dict[str, object]]:
    """Milliseconds and operations a frame of the model's decoder, eager: whole, and by rows.

    Args:
        frames: of one session, decoded in one call.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (frames, spec.codec.latent_channels, spec.latent_size, spec.latent_size)
    latents = torch.randn(shape, generator=generator).to(model.device, model.dtype)
    with torch.device("meta"):
        counted = build_codec(spec)
    thought = latents.to("meta", torch.float32)
    ways = {"whole": (lambda: model.codec.decode(latents), lambda: counted.decode(thought))}
    if not isinstance(model.codec, TinyCodec) and not isinstance(counted, TinyCodec):
        rows = Rows.shown(paste_weights(spec.face, spec.resolution))
        decoder, counting = RowDecoder(model.codec, rows), RowDecoder(counted, rows)
        _, moments = decoder.decode_with_moments(latents[:1])
        held = moments.to("meta")
        ways[f"rows {rows.first} to {rows.end}"] = (
            lambda: decoder.decode_rows(latents, moments),
            lambda: counting.decode_rows(thought, held),
        )
    found: list[dict[str, object]] = []
    for name, (run, count) in ways.items():
        timing = time_call(run, model.device, rounds=rounds, limit_s=limit_s)
        flops = count_flops(count)
        found.append(
            {
                "codec": spec.codec.kind,
                "decoded": name,
                "frames": frames,
                "frame_ms": round(timing.median_ms / frames, 4),
                "gflop_frame": round(flops / frames / 1e9, 3),
                "ceiling_share": round(ceilings.share(flops, timing.median_ms, model.precision), 4),
            }
        )
    return found
