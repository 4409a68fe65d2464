"""Which faces are encoded, and that what is generated reaches the picture, its warp included."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from engine.avatar import AvatarSource, prepare_avatar
from engine.backends.base import GeneratedHop, HopInput
from engine.media import F32, U8, RenderedFrame
from engine.pipeline import show_crops
from engine.scheduler import Scheduler
from engine.spec import WARP_CHANNELS
from engine.stream import Stream, StreamOptions
from tests.fakes import FAKE_SPEC, FakeBackend, FakeCamera, fake_avatar, speech


class CountingBackend(FakeBackend):
    """Notes what is encoded, and the references that the network is given."""

    def __init__(self, reference: str) -> None:
        super().__init__(dataclasses.replace(FAKE_SPEC, reference=reference))  # type: ignore[arg-type]
        self.whole: list[int] = []
        self.references: list[F32] = []

    def encode(self, crops: U8, *, masked: bool) -> F32:
        if not masked:
            self.whole.append(len(crops))
        return super().encode(crops, masked=masked)

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        self.references += [item.ref_latents for item in batch]
        return super().run_hop(batch)


def _run(backend: CountingBackend, camera: FakeCamera, frames: int) -> None:
    stream = Stream(backend, camera, StreamOptions(hop_frames=4, realtime=False))
    scheduler = Scheduler(backend)
    scheduler.add(stream)
    stream.push_audio(speech(frames))
    stream.flush()
    while scheduler.run_due():
        pass


@pytest.mark.parametrize(("reference", "whole"), [("frame", [4, 4, 4]), ("session", [1])])
def test_a_session_reference_is_encoded_once(reference: str, whole: list[int]) -> None:
    backend = CountingBackend(reference)
    _run(backend, FakeCamera(12, [True] * 12), 12)
    assert backend.whole == whole
    assert all(latents.shape == (4, 4, 4, 4) for latents in backend.references)


def test_a_cut_brings_a_new_session_reference() -> None:
    backend = CountingBackend("session")
    _run(backend, FakeCamera(12, [True] * 12, cuts=[4]), 12)
    assert backend.whole == [1, 1]


def test_a_session_without_a_face_at_first_refers_to_its_first_face() -> None:
    backend = CountingBackend("session")
    _run(backend, FakeCamera(12, [False] * 6 + [True] * 6), 12)
    assert backend.whole == [1]


def test_an_avatars_session_reference_is_its_reference_frame() -> None:
    avatar = dataclasses.replace(fake_avatar().avatar, reference_frame=3)
    own = prepare_avatar(avatar, CountingBackend("frame"))
    shared = prepare_avatar(avatar, CountingBackend("session"))
    assert np.ptp(own.ref_latents, axis=0).max() > 0.0
    for latents in shared.ref_latents:
        assert np.array_equal(latents, own.ref_latents[3])
    assert np.array_equal(own.masked_latents, shared.masked_latents)


class WarpingBackend(FakeBackend):
    """Gives a warp without motion beside its crops, the same everywhere."""

    def __init__(self, cover_logit: float) -> None:
        super().__init__()
        self.cover_logit = cover_logit

    def run_hop(self, batch: Sequence[HopInput]) -> list[GeneratedHop]:
        warps = np.zeros((batch[0].mel.shape[0], WARP_CHANNELS, 4, 4), np.float32)
        warps[:, 2:] = self.cover_logit
        return [GeneratedHop(hop.crops, warps) for hop in super().run_hop(batch)]


def _spoken(backend: FakeBackend) -> list[RenderedFrame]:
    """Frames of speech, and those that fade out after it was interrupted."""
    stream = Stream(
        backend, AvatarSource(fake_avatar()), StreamOptions(hop_frames=4, realtime=False)
    )
    scheduler = Scheduler(backend)
    scheduler.add(stream)
    stream.push_audio(speech(12), generation=1)
    frames = [frame for output in scheduler.run_due() for frame in output.frames]
    stream.interrupt(2)
    frames += stream.collect()
    synced = [frame.synced for frame in frames]
    assert len(backend.batches) == 1 and 0.5 in synced and 1.0 in synced
    return frames


def test_a_warp_without_motion_or_cover_leaves_the_avatar_as_it_is() -> None:
    for frame in _spoken(WarpingBackend(-200.0)):
        assert (frame.picture.i420 == 100 + frame.index % 10).all()


def test_a_warp_that_covers_all_shows_the_generated_mouth() -> None:
    for covered, plain in zip(_spoken(WarpingBackend(200.0)), _spoken(FakeBackend()), strict=True):
        assert (covered.synced, covered.index) == (plain.synced, plain.index)
        changed = covered.picture.i420 != 100 + covered.index % 10
        assert changed.any() == (covered.synced > 0.0)
        own, other = covered.picture.luma[30:40, 40:50], plain.picture.luma[30:40, 40:50]
        assert covered.synced < 1.0 or np.array_equal(own, other)


def test_crops_are_shown_as_they_are_pasted() -> None:
    sources = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    crops = 255 - sources
    weights = np.zeros((32, 32), np.float32)
    weights[8:24, 8:24] = 1.0
    warps = np.zeros((2, WARP_CHANNELS, 4, 4), np.float32)
    warps[:, 2:] = 200.0
    for generated in (GeneratedHop(crops), GeneratedHop(crops, warps)):
        shown = show_crops(generated, sources, weights)
        inside = weights > 0.0
        assert np.array_equal(shown[:, inside], crops[:, inside])
        assert np.array_equal(shown[:, ~inside], sources[:, ~inside])
    warps[:, 0], warps[:, 2:] = 0.5, -200.0
    moved = show_crops(GeneratedHop(crops, warps), sources, np.ones((32, 32), np.float32))
    assert np.array_equal(moved[:, :, :28], sources[:, :, 4:])
