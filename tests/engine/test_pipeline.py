"""Which faces are encoded: each frame's own, or the session's first as the reference of all."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from engine.avatar import prepare_avatar
from engine.backends.base import HopInput
from engine.media import F32, U8
from engine.scheduler import Scheduler
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

    def run_hop(self, batch: Sequence[HopInput]) -> list[U8]:
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
