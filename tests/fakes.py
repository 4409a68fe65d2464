"""A backend and sources without networks: what comes out says what went in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from engine.avatar import Avatar, PreparedAvatar
from engine.backends.base import GeneratedHop, HopInput
from engine.gate import FaceClosed
from engine.media import F32, FRAME_SAMPLES, U8, Picture
from engine.pipeline import SourceFrame
from engine.spec import AudioSpec, CodecSpec, FaceSpec, ModelSpec, UNetSpec

R = 32
FAKE_SPEC = ModelSpec(
    name="fake",
    licence="Apache-2.0",
    resolution=R,
    audio=AudioSpec(width=16, layers=1, heads=2, positions=16),
    unet=UNetSpec(cross_attention_dim=16, audio_tokens=20),
    codec=CodecSpec(kind="tiny"),
    face=FaceSpec(
        template=((4.0, -8.0), (28.0, -8.0), (16.0, 4.0)),
        crop_width=R,
        crop_height=R,
        mask=(0.5, 0.5, 0.4, 0.4),
        paste="crop_mask",
    ),
    prediction_type="sample",
    carry="causal",
)


class FakeState:
    """A session that counts its frames.

    Attributes:
        carried: frames since the last reset.
        resets: how often it was reset.
    """

    def __init__(self, hop_frames: int, seed: int) -> None:
        self.hop_frames = hop_frames
        self.seed = seed
        self.carried = 0
        self.resets = 0

    def reset(self) -> None:
        self.carried = 0
        self.resets += 1


class FakeBackend:
    """Paints crops whose red is the loudness of the frame's newest sound and whose green
    counts the frames since the session's last reset.

    Attributes:
        batches: hops of every call of `run_hop`.
        encoded: crops of every call of `encode`.
        refused: a session that makes `run_hop` fail.
    """

    name = "fake"
    max_batch = 8

    def __init__(self, spec: ModelSpec = FAKE_SPEC) -> None:
        self.spec = spec
        self.batches: list[int] = []
        self.encoded: list[int] = []
        self.sessions: list[FakeState] = []
        self.refused: FakeState | None = None

    def encode(self, crops: U8, *, masked: bool) -> F32:
        assert crops.shape[1:] == (R, R, 3)
        self.encoded.append(len(crops))
        size = self.spec.latent_size
        grey = crops.mean(axis=(1, 2, 3), dtype=np.float32) * (0.5 if masked else 1.0)
        shape = (len(crops), self.spec.codec.latent_channels, size, size)
        return np.broadcast_to(grey[:, None, None, None], shape).astype(np.float32)

    def new_session(self, *, hop_frames: int, seed: int) -> FakeState:
        self.sessions.append(FakeState(hop_frames, seed))
        return self.sessions[-1]

    def warm_up(self, hop_frames: int) -> None:
        """Always ready."""

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        assert len({item.mel.shape[0] for item in batch}) == 1
        self.batches.append(len(batch))
        results = []
        for item in batch:
            assert isinstance(item.state, FakeState)
            if item.state is self.refused:
                raise RuntimeError("this session is refused")
        for item in batch:
            state = item.state
            assert isinstance(state, FakeState)
            assert item.mel.shape[0] == item.masked_latents.shape[0] == state.hop_frames
            crops = np.zeros((state.hop_frames, R, R, 3), np.uint8)
            for index, mel in enumerate(item.mel):
                crops[index, ..., 0] = np.clip(128 * (mel[:, -12:].mean() + 1.0), 0, 255)
                crops[index, ..., 1] = min(state.carried, 255)
                state.carried += 1
            results.append(GeneratedHop(crops))
        return results


def grey_picture(level: int, width: int = 96, height: int = 80) -> Picture:
    return Picture(np.full((height * 3 // 2, width), level, np.uint8))


def fake_affine() -> F32:
    """The crop lies at (30, 20) of the picture, unscaled."""
    return np.array([[1, 0, -30], [0, 1, -20]], np.float32)


def fake_avatar(frames: int = 10) -> PreparedAvatar:
    """An avatar whose clip frame i is grey 100 + i."""
    size = FAKE_SPEC.latent_size
    points = np.array([[34, 12], [58, 12], [46, 24]], np.float32)
    avatar = Avatar(
        name="fake",
        title="Fake",
        licence="CC0",
        loop="wrap",
        pictures=tuple(grey_picture(100 + index) for index in range(frames)),
        points=np.repeat(points[None], frames, axis=0),
        reference_frame=0,
    )
    return PreparedAvatar(
        avatar,
        np.repeat(fake_affine()[None], frames, axis=0),
        np.zeros((frames, 4, size, size), np.float32),
        np.zeros((frames, 4, size, size), np.float32),
    )


class FakeCamera:
    """A camera whose pictures all have come; a face is where `faces` says so.

    Attributes:
        closed: why the mouth of a frame must not be shown.
    """

    rests_in_silence = False

    def __init__(
        self,
        frames: int,
        faces: Sequence[bool],
        cuts: Sequence[int] = (),
        closed: Mapping[int, FaceClosed] | None = None,
    ) -> None:
        self.frames = frames
        self.faces = faces
        self.cuts = cuts
        self.closed = closed or {}
        self.first: int | None = 0

    def start_frame(self) -> int | None:
        return self.first

    def ready(self, frames: range) -> bool:
        return frames.stop <= self.frames

    def take(self, frames: range) -> list[SourceFrame]:
        taken = []
        for frame in frames:
            index = min(frame, len(self.faces) - 1)
            affine = fake_affine() if self.faces[index] else None
            taken.append(
                SourceFrame(
                    grey_picture(100),
                    affine,
                    cut=frame in self.cuts,
                    closed=self.closed.get(index),
                )
            )
        return taken

    def push(self, picture: Picture, pts_samples: int) -> None:
        """All pictures are there already."""

    def end(self) -> None:
        self.frames = 10**9


def speech(frames: int, loud: range | None = None, seed: int = 0) -> F32:
    """Noise of speech's level in the frames of `loud` (all of them by default), else silence."""
    noise = np.random.default_rng(seed).standard_normal(frames * FRAME_SAMPLES)
    samples = np.asarray(0.1 * noise, np.float32)
    if loud is not None:
        samples[: loud.start * FRAME_SAMPLES] = 0.0
        samples[loud.stop * FRAME_SAMPLES :] = 0.0
    return samples
