"""Which buffer every tensor of a hop's plans is bound to; the plans are held against it.

Names and shapes are those of `export/networks.py` and `export/hop_graphs.py`. A hop runs

    hop_start, audio_encoder, hop_audio, (unet, hop_step) for each step, codec_decoder, hop_finish

and what one writes the next one reads, from the same buffer; "hop_audio" is there where the U-Net
sees other sound than the new frames' (`engine.plan_runtime.hop_way`). Rows of a plan are sessions;
of the codec and the audio encoder frames of sessions; of a guided U-Net a session's two branches.
All of these lie one after the other, so that rows of one plan and of another can be one buffer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.errors import BackendError
from engine.plan_runtime.hop_way import (
    branches_of,
    hop_plans,
    is_pinned,
    network_frames,
    plans_of,
    rows_of,
)
from engine.plan_runtime.mixing import noises_of
from engine.plan_runtime.plan_engine import DType, PlanTensor
from engine.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Ring:
    """What one ring carries of each frame.

    Attributes:
        name: as the U-Net's plan has it; it gives the new frames' as "new_" and that.
        shape: of a frame's keys, and of its values (or means, and variances).
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]

    def tensor(self, frames: int, *, new: bool) -> PlanTensor:
        """[2, frames, ...], as the network reads them or gives the new ones."""
        name = f"new_{self.name}" if new else self.name
        return PlanTensor(name, self.dtype, (2, frames, *self.shape), not new)

    @property
    def frame_bytes(self) -> int:
        """Of a frame's keys, or of its values."""
        return PlanTensor(self.name, self.dtype, self.shape, True).row_bytes


@dataclass(frozen=True, slots=True)
class Binding:
    """A tensor of a plan and the buffer it is bound to.

    Attributes:
        buffer: its name.
        each_step: there is one such buffer for each step.
    """

    tensor: PlanTensor
    buffer: str
    each_step: bool = False


def rings_of(unet: Sequence[PlanTensor]) -> tuple[Ring, ...]:
    """The rings that a U-Net's plan gives new frames for, in its order."""
    return tuple(
        Ring(tensor.name.removeprefix("new_"), tensor.dtype, tensor.shape[2:])
        for tensor in unet
        if tensor.name.startswith("new_") and len(tensor.shape) > 2
    )


def bindings_of(
    spec: ModelSpec, hop: int, precision: DType, rings: Sequence[Ring]
) -> dict[str, tuple[Binding, ...]]:
    """Every tensor of every plan of a hop, by plan.

    Args:
        precision: of the networks.
        rings: from `rings_of`.
    """
    audio, side = spec.audio, spec.resolution
    channels, size = spec.codec.latent_channels, spec.latent_size
    warps = spec.unet.prediction_channels - channels
    frames, branches = network_frames(spec, hop), branches_of(spec)
    pinned, noises = is_pinned(spec, hop), noises_of(spec)
    context, past = spec.window_frames - frames, spec.window_frames - hop
    mels = (audio.n_mels, audio.mel_frames)
    tokens = (audio.tokens, audio.width)
    latents, face = (channels, size, size), (hop, channels, size, size)

    def reads(
        name: str, dtype: DType, *shape: int, buffer: str = "", each: bool = False
    ) -> Binding:
        return Binding(PlanTensor(name, dtype, shape, True), buffer or name, each)

    def writes(name: str, dtype: DType, *shape: int, buffer: str = "") -> Binding:
        return Binding(PlanTensor(name, dtype, shape, False), buffer or name)

    # A session's two branches lie one after the other, and are rows of the U-Net.
    twice = (branches,) if branches > 1 else ()
    gathers = "hop_audio" in hop_plans(spec, hop)
    if context:
        window = [reads("valid", "f32", context), reads("places", "i64", context)]
        window += [_of_ring(ring, context, new=False) for ring in rings]
    else:
        window = [reads("present", "f32", frames)]
    before_start: tuple[Binding, ...] = ()
    before_step: tuple[Binding, ...] = ()
    windows: tuple[Binding, ...] = ()
    if pinned:
        before_start = (
            reads("past_latents", "f32", past, *latents),
            reads("past_masked", precision, past, *latents),
            reads("past_reference", precision, past, *latents),
            reads("pin", "f32", 1 + noises, buffer="pin_first"),
        )
        before_step = (
            reads("past_latents", "f32", past, *latents),
            reads("pin", "f32", 1 + noises, each=True),
        )
        windows = (
            writes("window_masked", precision, frames, *latents),
            writes("window_reference", precision, frames, *latents),
        )
    tables = {
        "hop_start": (
            reads("mel", "f32", hop, *mels),
            reads("noise", "f32", noises, *latents),
            reads("masked", "f32", *face),
            reads("reference", "f32", *face),
            *before_start,
            writes("network_mel", precision, hop, *mels),
            writes("latents", "f32", *face),
            writes("sample", precision, *twice, 3 * channels + 1, frames, size, size),
            *windows,
        ),
        "audio_encoder": (
            reads("mel", precision, *mels, buffer="network_mel"),
            writes("tokens", precision, *tokens),
        ),
        "hop_audio": (
            reads("tokens", precision, hop, *tokens),
            *((reads("past_tokens", precision, past, *tokens),) if pinned else ()),
            writes("audio", precision, *twice, frames, *tokens),
        ),
        "unet": (
            reads("sample", precision, 3 * channels + 1, frames, size, size),
            Binding(PlanTensor("timestep", "f32", (), True), "timestep", each_step=True),
            reads("audio", precision, frames, *tokens, buffer="audio" if gathers else "tokens"),
            *window,
            writes("out", precision, channels + warps, frames, size, size),
            *(_of_ring(ring, hop, new=True) for ring in rings),
        ),
        "hop_step": (
            reads("latents", "f32", *face),
            reads("out", precision, *twice, channels + warps, frames, size, size),
            reads("noise", "f32", noises, *latents),
            reads("mix", "f32", 1 + branches + noises, each=True),
            *before_step,
            writes("next", "f32", *face),
            writes("noisy", precision, *twice, channels, frames, size, size),
            writes("clean", precision, *face),
            *((writes("window_latents", "f32", frames, *latents),) if pinned else ()),
            *([writes("warp", "f32", hop, warps, size, size)] if warps else []),
        ),
        "codec_decoder": (
            reads("latents", precision, *latents, buffer="clean"),
            writes("image", precision, 3, side, side),
        ),
        "hop_finish": (
            reads("image", precision, 3, side, side),
            writes("crops", "u8", side, side, 3),
        ),
        "crop_start": (
            reads("crops", "u8", side, side, 3),
            reads("grey", "f32", 1),
            writes("image", precision, 3, side, side),
        ),
        "codec_encoder": (
            reads("image", precision, 3, side, side),
            writes("latents", precision, *latents),
        ),
        "crop_finish": (
            reads("latents", precision, *latents),
            writes("wide", "f32", *latents),
        ),
    }
    wanted = plans_of(spec, hop)
    return {plan: bound for plan, bound in tables.items() if plan in wanted}


def _of_ring(ring: Ring, frames: int, *, new: bool) -> Binding:
    tensor = ring.tensor(frames, new=new)
    return Binding(tensor, tensor.name, each_step=True)


def check_tensors(plan: str, wanted: Sequence[Binding], tensors: Sequence[PlanTensor]) -> None:
    """Holds a plan's tensors against those it is to be bound by, in whatever order.

    Raises:
        BackendError: a name, type, shape or direction differs, with expected and found.
    """
    expected = {binding.tensor.name: binding.tensor for binding in wanted}
    found = {tensor.name: tensor for tensor in tensors}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise BackendError(
                f"plan of {plan}: expected {_words(expected.get(name))}, got "
                f"{_words(found.get(name))}"
            )


def check_profiles(
    rows: Mapping[str, Sequence[int]], spec: ModelSpec, hop: int, buckets: Sequence[int]
) -> None:
    """Holds the profiles of plans against the buckets of sessions that are to run.

    Args:
        rows: of each profile, by plan.

    Raises:
        BackendError: a plan has other profiles.
    """
    for plan, found in rows.items():
        wanted = [bucket * rows_of(spec, hop, plan) for bucket in buckets]
        if list(found) != wanted:
            raise BackendError(f"plan of {plan}: expected profiles of {wanted} rows, got {found}")


def _words(tensor: PlanTensor | None) -> str:
    if tensor is None:
        return "no such tensor"
    side = "input" if tensor.is_input else "output"
    return f"{side} {tensor.name} as {tensor.dtype} {list(tensor.shape)}"
