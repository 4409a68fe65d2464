"""A backend over the four ONNX graphs of a model folder, in numpy.

What runs a graph is behind `GraphRunner`; OpenVINO and onnxruntime are two of
them. Graphs are compiled for fixed shapes: one session, h frames. On one CPU
thread a batch of two would save 8 % of the U-Net and cost as much again in
copying the rings together, so the sessions of a hop run one after the other,
on few shapes, each the same alone or among others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.backends.base import GeneratedHop, HopInput, SessionState
from engine.backends.inputs import (
    check_batch,
    check_crops,
    check_new_session,
    latents_shape,
    session_noise,
    to_network,
    to_pictures,
)
from engine.backends.portable import SessionContext
from engine.carry import HopRings
from engine.errors import BackendError, StreamError
from engine.face.mask import mask_image, mask_latents
from engine.media import F32, U8
from engine.sampler import Sampler
from engine.spec import ModelSpec

# Crops encoded in one run of the graph: live sessions send hops, avatars send
# whole clips, and each size is compiled once.
ENCODE_CHUNKS = (4, 1)


class GraphRunner(Protocol):
    """Runs the graphs of one folder. Not thread-safe."""

    name: str

    def ring_shapes(self) -> list[tuple[int, int]]:
        """(tokens, channels) of every ring that the U-Net's graph takes."""

    def compile(self, graph: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Makes a graph ready for these input shapes.

        Raises:
            BackendError: the graph cannot be read or compiled.
        """

    def run(self, graph: str, inputs: Mapping[str, F32]) -> list[F32]:
        """The graph's outputs, valid until the same graph runs again."""


@dataclass(slots=True)
class GraphSession:
    """One session's memory.

    Attributes:
        seed: of the noise.
        sample: float32 [1, 3C + 1, h, s, s], the U-Net's input; the mask channel
            is written once.
        noise: float32 [C, 1, s, s], the session's fixed noise.
        rings: one set a served timestep.
    """

    owner: GraphBackend
    hop: int
    seed: int
    sample: F32
    noise: F32
    rings: list[HopRings]

    def reset(self) -> None:
        """Forgets the carried context."""
        for rings in self.rings:
            rings.reset()


def _refused(spec: ModelSpec) -> str:
    """What of a model the graphs cannot do; empty where they can do it all."""
    wants = {
        f"carry {spec.carry!r}": spec.carry != "causal",
        "norms that pool over frames": not spec.unet.per_frame_norm,
        f"start {spec.start!r}": spec.start != "noise",
        f"solver {spec.solver!r}": spec.solver != "ddim",
        "guided steps": any(spec.guided(step) for step in range(len(spec.timesteps))),
    }
    return ", ".join(name for name, wanted in wants.items() if wanted)


class GraphBackend:
    """Runs a model folder's graphs with one runner."""

    max_batch = 1  # hops run one after the other: the first need not wait for the last

    def __init__(self, spec: ModelSpec, runner: GraphRunner) -> None:
        """Compiles the graphs for the model's own hop.

        Raises:
            BackendError: a graph cannot be read or compiled, or the model's way
                of carrying context is not in the graphs.
        """
        refused = _refused(spec)
        if refused:
            raise BackendError(
                f"{runner.name} runs causal models with per-frame norms from noise and without "
                f"guidance, and {spec.name} has {refused}: use the torch backend"
            )
        self.spec = spec
        self.name = runner.name
        self._runner = runner
        self._sampler = Sampler(spec)
        self._keep = mask_image(spec)
        self._mask_latents = mask_latents(spec)
        for chunk in ENCODE_CHUNKS:
            shape = (chunk, 3, spec.resolution, spec.resolution)
            runner.compile("codec_encoder", {"image": shape})
        self._ring_shapes = runner.ring_shapes()
        self._compile_hop(spec.hop_frames)

    def _compile_hop(self, hop: int) -> None:
        spec, audio = self.spec, self.spec.audio
        channels, size, context = spec.codec.latent_channels, spec.latent_size, self._context(hop)
        self._runner.compile("audio_encoder", {"mel": (hop, audio.n_mels, audio.mel_frames)})
        self._runner.compile("codec_decoder", {"latents": (hop, channels, size, size)})
        rings = {
            f"ring_{index:03d}": (1, 2, context, tokens, width)
            for index, (tokens, width) in enumerate(self._ring_shapes)
        }
        self._runner.compile(
            "unet",
            {
                "sample": (1, spec.unet.in_channels, hop, size, size),
                "timestep": (1,),
                "audio": (1, hop, audio.tokens, audio.width),
                "valid": (1, context),
                **rings,
            },
        )

    def _context(self, hop: int) -> int:
        context = self.spec.window_frames - hop
        if context < 1:
            raise BackendError(
                f"{self.name} carries context: expected a hop of at most "
                f"{self.spec.window_frames - 1} frames, got {hop}"
            )
        return context

    def encode(self, crops: U8, *, masked: bool) -> F32:
        """Codec latents [n, C, s, s] of face crops [n, R, R, 3]."""
        check_crops(self.spec, crops)
        latents = np.empty((len(crops), *latents_shape(self.spec)), np.float32)
        start = 0
        while start < len(crops):
            size = next(chunk for chunk in ENCODE_CHUNKS if chunk <= len(crops) - start)
            image = to_network(crops[start : start + size])
            if masked:
                image *= self._keep
            (latents[start : start + size],) = self._runner.run("codec_encoder", {"image": image})
            start += size
        return latents

    def new_session(self, *, hop_frames: int, seed: int) -> GraphSession:
        """Fresh state; compiles the graphs for a hop length that has not been used yet."""
        spec = self.spec
        check_new_session(spec, hop_frames)
        self._compile_hop(hop_frames)
        channels, size = spec.codec.latent_channels, spec.latent_size
        sample = np.empty((1, spec.unet.in_channels, hop_frames, size, size), np.float32)
        sample[0, channels] = self._mask_latents
        context = self._context(hop_frames)
        return GraphSession(
            owner=self,
            hop=hop_frames,
            seed=seed,
            sample=sample,
            noise=session_noise(spec, seed)[0, :, None],
            rings=[HopRings(self._ring_shapes, context, hop_frames) for _ in spec.timesteps],
        )

    def export_session(self, state: SessionState) -> SessionContext:
        """What a session carries, copied."""
        session = self._own(state)
        return SessionContext(session.hop, session.seed, [rings.copy() for rings in session.rings])

    def import_session(self, context: SessionContext) -> GraphSession:
        """A session that goes on where another backend's stood."""
        session = self.new_session(hop_frames=context.hop_frames, seed=context.seed)
        if len(context.rings) != len(session.rings):
            raise StreamError(
                f"expected the rings of {len(session.rings)} steps, got {len(context.rings)}"
            )
        for own, carried in zip(session.rings, context.rings, strict=True):
            own.copy_from(carried)
        return session

    def warm_up(self, hop_frames: int) -> None:
        """Compiles the graphs for this hop length."""
        check_new_session(self.spec, hop_frames)
        self._compile_hop(hop_frames)

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        """The generated faces for each input."""
        if not batch:
            return []
        sessions = [self._own(item.state) for item in batch]
        check_batch(self.spec, batch, [session.hop for session in sessions])
        return [self._run(session, item) for session, item in zip(sessions, batch, strict=True)]

    def _own(self, state: SessionState) -> GraphSession:
        if not isinstance(state, GraphSession) or state.owner is not self:
            raise StreamError(f"expected a session of this {self.name} backend")
        return state

    def _run(self, session: GraphSession, item: HopInput) -> GeneratedHop:
        spec, channels = self.spec, self.spec.codec.latent_channels
        mel = np.ascontiguousarray(item.mel, np.float32)
        (tokens,) = self._runner.run("audio_encoder", {"mel": mel})
        noisy = session.sample[0, :channels]
        noisy[:] = session.noise
        session.sample[0, channels + 1 : 2 * channels + 1] = item.masked_latents.swapaxes(0, 1)
        session.sample[0, 2 * channels + 1 :] = item.ref_latents.swapaxes(0, 1)
        audio = tokens[None]
        warps: F32 | None = None
        for index, rings in enumerate(session.rings):
            inputs = {
                "sample": session.sample,
                "timestep": np.full(1, spec.timesteps[index], np.float32),
                "audio": audio,
                "valid": rings.valid[None],
            }
            for ring, array in enumerate(rings.arrays):
                inputs[f"ring_{ring:03d}"] = array[None]
            prediction, *new = self._runner.run("unet", inputs)
            noisy[:] = self._sampler.step(index, noisy, prediction[0, :channels])
            if spec.unet.source_warp:
                warps = prediction[0, channels:].swapaxes(0, 1).copy()
            rings.push([own[0] for own in new])
        latents = np.ascontiguousarray(noisy.swapaxes(0, 1))
        (image,) = self._runner.run("codec_decoder", {"latents": latents})
        return GeneratedHop(to_pictures(image), warps)
