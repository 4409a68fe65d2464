"""From source frames to finished pictures, for the hops of many streams at once.

The steps of a hop: take the source frames, crop the faces that are not
prepared, encode those of all streams in one call, run the network once for all
streams, paste each generated crop back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.backends.base import Backend, GeneratedHop, HopInput, SessionState
from engine.face.paste_back import PasteMask, crop_face, paste_crop
from engine.face.warp import compose
from engine.gate import FaceClosed
from engine.media import F32, U8, Picture
from engine.windows import WindowPlan


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A picture that waits for its mouth.

    Attributes:
        affine: float32 [2, 3] from picture to network pixels; None: no face.
        masked_latents, ref_latents: float32 [C, s, s] where they are prepared; None:
            the crop must be encoded.
        cut: the picture does not continue the one before it, or shows another person.
        closed: why no generated mouth may be shown, though there may be a face; None: it may.
    """

    picture: Picture
    affine: F32 | None
    masked_latents: F32 | None = None
    ref_latents: F32 | None = None
    cut: bool = False
    closed: FaceClosed | None = None


class FaceSource(Protocol):
    """Where a stream's pictures come from: a prepared avatar or a camera."""

    rests_in_silence: bool
    """The source's own mouth is at rest, so silence needs no generated one."""

    def start_frame(self) -> int | None:
        """The first frame that can be shown; None: no picture has come yet."""

    def ready(self, frames: range) -> bool:
        """Whether the pictures of `frames` have come."""

    def take(self, frames: range) -> list[SourceFrame]:
        """The source frames of `frames`, which are asked for in order and once."""

    def push(self, picture: Picture, pts_samples: int) -> None:
        """Takes a camera's next picture.

        Raises:
            StreamError: an avatar takes none, or too many wait.
        """

    def end(self) -> None:
        """No more pictures will come: those that are there are ready."""


@dataclass(slots=True)
class PendingHop:
    """One stream's hop on its way through the network.

    Attributes:
        sources: h source frames.
        factors: the share of generated mouth of each.
        affines: where each mouth goes; None where there is none to paste.
        generation: of the speech that the hop shows.
        state: the backend's session; None: the hop shows the source frames only.
        mel: float32 [h, n_mels, mel_frames] where `state` is there.
        reference: float32 [C, s, s], the session's own, once encoded; unused by models whose
            reference is each frame's own.
        masked_latents, ref_latents: float32 [h, C, s, s], once encoded.
    """

    plan: WindowPlan
    sources: list[SourceFrame]
    factors: list[float]
    affines: list[F32 | None]
    generation: int
    state: SessionState | None = None
    mel: F32 | None = None
    reference: F32 | None = None
    masked_latents: F32 | None = None
    ref_latents: F32 | None = None


def nearest_faces(faces: Sequence[int], count: int) -> list[int]:
    """For each of `count` frames the nearest frame that has a face, itself if it is one."""
    return [min(faces, key=lambda face: abs(face - index)) for index in range(count)]


def encode_faces(backend: Backend, hops: Sequence[PendingHop]) -> None:
    """Gives every hop its face latents; crops of all hops are encoded together.

    A frame without a face borrows the nearest one's, so that the window has no hole. With the
    session's first face as the reference of all frames, no other whole face is encoded.
    """
    per_session = backend.spec.reference == "session"
    masked = _Encoder(backend, masked=True)
    whole = _Encoder(backend, masked=False)
    for hop in hops:
        for source, affine in zip(hop.sources, hop.affines, strict=True):
            masked.want(source, affine, source.masked_latents)
            if not per_session:
                whole.want(source, affine, source.ref_latents)
        if per_session and hop.reference is None:
            source, affine = _first_face(hop)
            whole.want(source, affine, source.ref_latents)
    for hop in hops:
        faces = [
            index
            for index, (source, affine) in enumerate(zip(hop.sources, hop.affines, strict=True))
            if source.masked_latents is not None or affine is not None
        ]
        order = nearest_faces(faces, len(hop.sources))
        hop.masked_latents = np.stack([masked.latents(hop.sources[index]) for index in order])
        if not per_session:
            hop.ref_latents = np.stack([whole.latents(hop.sources[index]) for index in order])
            continue
        if hop.reference is None:
            hop.reference = whole.latents(_first_face(hop)[0])
        hop.ref_latents = np.broadcast_to(hop.reference, hop.masked_latents.shape)


class _Encoder:
    """Collects crops, encodes them in one call at the first question, and gives them back."""

    def __init__(self, backend: Backend, *, masked: bool) -> None:
        self._backend = backend
        self._masked = masked
        self._crops: list[U8] = []
        self._places: dict[int, int] = {}  # id of a source frame -> its crop
        self._prepared: dict[int, F32] = {}
        self._encoded: F32 | None = None

    def want(self, source: SourceFrame, affine: F32 | None, prepared: F32 | None) -> None:
        if prepared is not None:
            self._prepared[id(source)] = prepared
        elif affine is not None:
            self._places[id(source)] = len(self._crops)
            self._crops.append(crop_face(source.picture, affine, self._backend.spec.resolution))

    def latents(self, source: SourceFrame) -> F32:
        prepared = self._prepared.get(id(source))
        if prepared is not None:
            return prepared
        if self._encoded is None:
            self._encoded = self._backend.encode(np.stack(self._crops), masked=self._masked)
        latents: F32 = self._encoded[self._places[id(source)]]
        return latents


def _first_face(hop: PendingHop) -> tuple[SourceFrame, F32 | None]:
    return next(
        (source, affine)
        for source, affine in zip(hop.sources, hop.affines, strict=True)
        if source.ref_latents is not None or affine is not None
    )


def run_network(backend: Backend, hops: Sequence[PendingHop]) -> list[GeneratedHop]:
    """The generated faces of each hop, in one call of the backend."""
    batch = []
    for hop in hops:
        assert hop.state is not None and hop.mel is not None
        assert hop.masked_latents is not None and hop.ref_latents is not None
        batch.append(HopInput(hop.state, hop.mel, hop.masked_latents, hop.ref_latents))
    return backend.run_hop(batch)


def paste_hop(hop: PendingHop, generated: GeneratedHop | None, mask: PasteMask) -> list[Picture]:
    """The finished pictures of a hop; with nothing generated they are the source pictures."""
    pictures = [source.picture for source in hop.sources]
    if generated is None:
        return pictures
    for index, (affine, factor) in enumerate(zip(hop.affines, hop.factors, strict=True)):
        if affine is not None:
            crop, warp = generated.crops[index], generated.warp(index)
            pictures[index] = paste_crop(pictures[index], crop, mask, affine, factor, warp)
    return pictures


def show_crops(generated: GeneratedHop, sources: U8, weights: F32) -> U8:
    """uint8 [h, R, R, 3]: what a viewer sees of generated faces, at their own resolution.

    Args:
        sources: uint8 [h, R, R, 3], the crops that they were generated for.
        weights: float32 [R, R], `engine.face.mask.paste_weights`.
    """
    shown = np.empty_like(sources)
    for index, (source, crop) in enumerate(zip(sources, generated.crops, strict=True)):
        warp = generated.warp(index)
        if warp is not None:
            shown[index] = compose(source, crop, warp, weights)
        else:
            own = source.astype(np.float32)
            shown[index] = np.rint(own + weights[..., None] * (crop - own))
    return shown
