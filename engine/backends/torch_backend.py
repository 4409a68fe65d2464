"""The reference backend: torch, the hops of many sessions in one batch.

Every other backend is held against it. It runs every window mode (`engine.denoise`). Noise, rings
and histories stay on the device; per hop only log-mels and face latents go in and pictures out.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from engine.backends.base import GeneratedHop, HopInput, SessionState
from engine.backends.inputs import (
    check_batch,
    check_crops,
    check_new_session,
    latents_shape,
    session_noise,
)
from engine.backends.portable import SessionContext
from engine.denoise.decoding import Decoder
from engine.denoise.model import TorchModel
from engine.denoise.pool import PADDING_SLOT, SessionPool
from engine.denoise.programs import StaticProgram
from engine.denoise.ring_exchange import check_exchangeable, fill_rings, rings_of
from engine.denoise.window_modes import Denoiser, HopCall, Kind, kind_of, kinds_of, needs_of
from engine.errors import StreamError
from engine.face.mask import mask_image, mask_latents
from engine.media import F32, U8
from engine.sampler import Sampler
from engine.spec import ModelSpec

# Hops of one call, filled up to the next of these: each is compiled and captured once.
CUDA_BUCKETS = (1, 2, 4, 8, 16)
# On a CPU a batch gains next to nothing, and alone every session's numbers are its own.
CPU_BUCKETS = (1,)

# What is computed, and whether the result is pictures or latents.
CallKind = tuple[Kind | Literal["cold"], bool]
COLD: CallKind = ("cold", False)


@dataclass(slots=True, eq=False, weakref_slot=True)
class TorchSession:
    """One session: its slot in the pool, and how much it carries there.

    Attributes:
        seed: of its noise; also shifts the hops that refresh.
        carried, hops: frames and hops since it carried nothing.
    """

    owner: TorchBackend
    hop: int
    slot: int
    seed: int
    carried: int = 0
    hops: int = 0

    def reset(self) -> None:
        """Forgets the carried context."""
        self.carried = self.hops = 0


@dataclass(frozen=True, slots=True)
class DenoisedHop:
    """A hop before its decoding.

    Attributes:
        latents: clean, [C, h, s, s].
        warps: as of `GeneratedHop`.
    """

    latents: F32
    warps: F32 | None


@dataclass(slots=True)
class HopLength:
    """Everything that belongs to one hop length.

    Attributes:
        programs: by kind of call and bucket.
        generation: of the pool's memory that they were made for.
    """

    pool: SessionPool
    denoiser: Denoiser
    programs: dict[tuple[CallKind, int], StaticProgram] = field(default_factory=dict)
    generation: int = 0


class TorchBackend:
    """Runs a model in every window mode."""

    def __init__(
        self,
        model: TorchModel,
        spec: ModelSpec,
        *,
        buckets: Sequence[int] | None = None,
        graphs: bool | None = None,
        compiled: bool = False,
        sessions: int | None = None,
    ) -> None:
        """A backend over a model that other backends may share.

        Args:
            spec: how it is run; networks and geometry must be the model's.
            buckets: hops of one call, rising; None: those of the device.
            graphs: replay captured calls; None: on CUDA.
            compiled: compile the network and the codec, which costs minutes at the first hop
                of every shape.
            sessions: whose memory is taken at first; None: a bucket's, at least four.

        Raises:
            StreamError: no buckets, or they do not rise.
        """
        cuda = model.device.type == "cuda"
        self.buckets = tuple(buckets or (CUDA_BUCKETS if cuda else CPU_BUCKETS))
        if list(self.buckets) != sorted(set(self.buckets)) or self.buckets[0] < 1:
            raise StreamError(f"expected buckets that rise from at least 1, got {self.buckets}")
        self.spec = spec
        self.max_batch = self.buckets[-1]
        self._sessions = sessions or max(self.max_batch, 4)
        self.model = model
        self.name = f"torch-{model.device.type}-{model.precision}"
        Sampler(spec)  # refuses timesteps that are out of range
        self._graphs = cuda if graphs is None else graphs
        self._graph_memory = torch.cuda.graph_pool_handle() if cuda and self._graphs else None
        self._wrap: Any = partial(torch.compile, dynamic=False) if compiled else lambda call: call
        self._decoder = Decoder(model, spec, self._wrap)
        self._keep = torch.from_numpy(mask_image(spec)).to(model.device)
        self._mask = self._tensor(mask_latents(spec))[None]
        self._lengths: dict[int, HopLength] = {}
        self._encoders: dict[tuple[int, bool], StaticProgram] = {}

    def _tensor(self, array: F32) -> Tensor:
        return torch.from_numpy(array).to(self.model.device, self.model.dtype)

    @torch.inference_mode()
    def encode(self, crops: U8, *, masked: bool) -> F32:
        """Codec latents [n, C, s, s] of face crops [n, R, R, 3]."""
        check_crops(self.spec, crops)
        parts: list[F32] = [np.zeros((0, *latents_shape(self.spec)), np.float32)]
        for start in range(0, len(crops), self.buckets[-1]):
            part = torch.from_numpy(crops[start : start + self.buckets[-1]])
            bucket = self._bucket(len(part))
            padded = torch.cat([part, part[-1:].expand(bucket - len(part), -1, -1, -1)])
            padded = padded.to(self.model.device)
            key = (bucket, masked)
            if key not in self._encoders:
                call = partial(self._encode, masked=masked)
                self._encoders[key] = self._program(call, [padded])
            (latents,) = self._encoders[key](padded)
            parts.append(latents[: len(part)].float().cpu().numpy())
        return np.concatenate(parts)

    def _encode(self, crops: Tensor, *, masked: bool) -> tuple[Tensor]:
        image = crops.permute(0, 3, 1, 2) / 127.5 - 1.0
        if masked:
            image = image * self._keep
        return (self.model.codec.encode(image.to(self.model.dtype)),)

    def new_session(self, *, hop_frames: int, seed: int) -> TorchSession:
        """Fresh state; its memory goes back to the pool when it is no longer held."""
        check_new_session(self.spec, hop_frames)
        pool = self._length(hop_frames).pool
        noise = session_noise(self.spec, seed, pool.noise.shape[1])
        slot = pool.acquire(torch.from_numpy(noise).to(pool.noise))
        session = TorchSession(self, hop_frames, slot, seed)
        weakref.finalize(session, pool.release, slot)
        return session

    @torch.inference_mode()
    def export_session(self, state: SessionState) -> SessionContext:
        """What a session carries, copied.

        Raises:
            StreamError: more than the rings of a causal model.
        """
        session = self._own(state)
        check_exchangeable(self.spec)
        rings = rings_of(self._length(session.hop).pool, session.slot, session.carried, session.hop)
        return SessionContext(session.hop, session.seed, rings)

    @torch.inference_mode()
    def import_session(self, context: SessionContext) -> TorchSession:
        """A session that goes on where another backend's stood."""
        check_exchangeable(self.spec)
        session = self.new_session(hop_frames=context.hop_frames, seed=context.seed)
        pool = self._length(context.hop_frames).pool
        session.carried = fill_rings(pool, session.slot, context.rings)
        session.hops = session.carried // session.hop
        return session

    @torch.inference_mode()
    def warm_up(self, hop_frames: int) -> None:
        """Compiles and captures every call that serving hops of this length can need."""
        if not self._graphs:
            return
        check_new_session(self.spec, hop_frames)
        spec, audio = self.spec, self.spec.audio
        crops = np.full((1, spec.resolution, spec.resolution, 3), 128, np.uint8)
        calls: list[CallKind] = [(kind, True) for kind in kinds_of(spec, hop_frames)]
        for bucket in self.buckets:
            for masked in (True, False):
                self.encode(crops.repeat(bucket, axis=0), masked=masked)
            face = (bucket, hop_frames, *latents_shape(spec))
            mel = np.zeros((bucket, hop_frames, audio.n_mels, audio.mel_frames), np.float32)
            latents = np.zeros(face, np.float32)
            slots = torch.full((bucket,), PADDING_SLOT, device=self.model.device)
            inputs = [slots, slots, *(self._tensor(array) for array in (mel, latents, latents))]
            for call in [*calls, *([COLD] if spec.start == "warm" else [])]:
                self._hop_program(call, hop_frames, inputs)

    @property
    def session_bytes(self) -> dict[int, int]:
        """Device memory of one session, by hop length in use."""
        return {hop: length.pool.session_bytes for hop, length in self._lengths.items()}

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        """The generated faces for each input."""
        return [GeneratedHop(crops, warps) for crops, warps in self._run(batch, pictures=True)]

    def denoise(self, batch: Sequence[HopInput]) -> list[DenoisedHop]:
        """What `run_hop` decodes, for each input."""
        return [
            DenoisedHop(latents.swapaxes(0, 1), warps)
            for latents, warps in self._run(batch, pictures=False)
        ]

    @torch.inference_mode()
    def _run(self, batch: Sequence[HopInput], *, pictures: bool) -> list[tuple[Any, F32 | None]]:
        if not batch:
            return []
        sessions = [self._own(item.state) for item in batch]
        hop = check_batch(self.spec, batch, [session.hop for session in sessions])
        results: list[tuple[Any, F32 | None]] = [(None, None)] * len(batch)
        for kind, places in self._chunks(sessions):
            chosen = [sessions[place] for place in places]
            items = [batch[place] for place in places]
            made, warps = self._run_bucket((kind, pictures), hop, chosen, items)
            for row, place in enumerate(places):  # what filled up is left out
                own = warps[row] if self.spec.unet.source_warp else None
                results[place] = made[row], own
            for session in chosen:
                session.carried += hop
                session.hops += 1
        return results

    def _chunks(self, sessions: Sequence[TorchSession]) -> Iterator[tuple[Kind, list[int]]]:
        """The places of a batch that are run together: one kind of hop, at most a bucket."""
        kinds: dict[Kind, list[int]] = {}
        for place, session in enumerate(sessions):
            kind = kind_of(self.spec, session.hop, session.carried, session.hops, session.seed)
            kinds.setdefault(kind, []).append(place)
        for kind, places in kinds.items():
            for start in range(0, len(places), self.buckets[-1]):
                yield kind, places[start : start + self.buckets[-1]]

    def _run_bucket(
        self,
        call: CallKind,
        hop: int,
        sessions: Sequence[TorchSession],
        items: Sequence[HopInput],
    ) -> tuple[Any, F32]:
        """Latents [bucket, h, C, s, s], or uint8 pictures [bucket, h, R, R, 3]; and warps."""
        if self.spec.start == "warm":
            new = [place for place, session in enumerate(sessions) if session.carried == 0]
            if new:
                cold = [sessions[place] for place in new], [items[place] for place in new]
                self._replay(COLD, hop, *cold)
        made, warps = self._replay(call, hop, sessions, items)
        return made.cpu().numpy(), warps.float().cpu().numpy()

    def _replay(
        self,
        call: CallKind,
        hop: int,
        sessions: Sequence[TorchSession],
        items: Sequence[HopInput],
    ) -> tuple[Tensor, ...]:
        bucket = self._bucket(len(sessions))
        spare = bucket - len(sessions)
        slots = [session.slot for session in sessions] + [PADDING_SLOT] * spare
        carried = [session.carried for session in sessions] + [0] * spare
        padded = [*items, *[items[-1]] * spare]
        inputs = [
            torch.tensor(slots, device=self.model.device),
            torch.tensor(carried, device=self.model.device),
            self._tensor(np.stack([item.mel for item in padded])),
            self._tensor(np.stack([item.masked_latents for item in padded])),
            self._tensor(np.stack([item.ref_latents for item in padded])),
        ]
        return self._hop_program(call, hop, inputs)(*inputs)

    def _hop_program(self, call: CallKind, hop: int, inputs: Sequence[Tensor]) -> StaticProgram:
        length = self._length(hop)
        if length.generation != length.pool.generation:
            length.programs.clear()  # they read the memory from before it grew
            length.generation = length.pool.generation
        key = (call, len(inputs[0]))
        if key not in length.programs:
            length.programs[key] = self._program(partial(self._hop, call, length), inputs)
        return length.programs[key]

    def _hop(
        self,
        call: CallKind,
        length: HopLength,
        slots: Tensor,
        carried: Tensor,
        mel: Tensor,
        masked: Tensor,
        reference: Tensor,
    ) -> tuple[Tensor, ...]:
        """One hop from log-mels to pictures and warps; nothing in it leaves the device."""
        kind, pictures = call
        tokens = self.model.audio_encoder(mel.flatten(0, 1)).unflatten(0, mel.shape[:2])
        given = HopCall(slots, carried, tokens, masked, reference)
        if kind == "cold":
            length.denoiser.start_cold(length.pool, given)
            return ()
        latents, warp = length.denoiser.run(kind, length.pool, given)
        return (self._decoder.pictures(latents) if pictures else latents, warp)

    def _length(self, hop: int) -> HopLength:
        if hop not in self._lengths:
            self._lengths[hop] = HopLength(
                SessionPool(self.model, self.spec, hop, needs_of(self.spec), self._sessions),
                Denoiser(self.model, self.spec, hop, self._mask, wrap=self._wrap),
            )
        return self._lengths[hop]

    def _program(self, call: Any, inputs: Sequence[Tensor]) -> StaticProgram:
        return StaticProgram(call, inputs, graph=self._graphs, memory=self._graph_memory)

    def _bucket(self, count: int) -> int:
        return next(bucket for bucket in self.buckets if bucket >= count)

    def _own(self, state: SessionState) -> TorchSession:
        if not isinstance(state, TorchSession) or state.owner is not self:
            raise StreamError(f"expected a session of this {self.name} backend")
        return state


def open_model(
    model_dir: Path, precision: str | None = None, spec: ModelSpec | None = None
) -> TorchBackend:
    """The torch backend for a model folder, on CUDA where there is a device.

    Args:
        spec: how the model is run; None: as its folder says.

    Raises:
        ModelError: weights are missing or do not fit.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True  # shapes never change: the search is paid back
    model = TorchModel.load(model_dir, device, precision)
    return TorchBackend(model, spec or ModelSpec.read(model_dir))
