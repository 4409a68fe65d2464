from __future__ import annotations

import numpy as np
import torch

from engine.face.warp import SourceWarp as ServedWarp
from engine.face.warp import compose
from training.dataset import to_tensor
from training.source_warp import SourceWarp, covered


def test_training_sees_what_the_engine_shows() -> None:
    rng = np.random.default_rng(3)
    source, decoded = rng.integers(0, 255, (2, 128, 128, 3), dtype=np.uint8)
    channels = rng.normal(0, 0.7, (18, 16, 16)).astype(np.float32)
    shown = compose(source, decoded, ServedWarp.of(channels))
    warp = SourceWarp.of(torch.from_numpy(channels)[None])
    trained = covered(warp, to_tensor(decoded[None]), to_tensor(source[None]))
    levels = (trained[0].permute(1, 2, 0).numpy() + 1.0) * 127.5
    # OpenCV looks up at thirty-seconds of a pixel: 1 / 64 of the steps of a white noise.
    assert np.abs(levels - shown).max() < 12.0
    assert np.abs(levels - shown).mean() < 1.0


def test_motion_learns_from_the_picture() -> None:
    torch.manual_seed(0)
    x = torch.arange(128) / 128.0
    source = torch.sin(6 * x).expand(1, 3, 128, 128).contiguous()
    truth = torch.sin(6 * (x + 4 / 128)).expand(1, 3, 128, 128)
    channels = torch.zeros(1, 18, 16, 16)
    channels[:, 2:] = -8.0
    channels.requires_grad_()
    optimizer = torch.optim.Adam([channels], lr=0.05)
    for _ in range(40):
        loss = (covered(SourceWarp.of(channels), source, source) - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    middle = channels[0, 0, 4:12, 3:9]
    torch.testing.assert_close(middle, torch.full_like(middle, 0.5), atol=0.1, rtol=0)
