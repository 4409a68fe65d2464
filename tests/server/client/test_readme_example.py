"""The README's examples, as they stand there."""

from __future__ import annotations

import asyncio
import re
import wave
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.server.served import served
from tests.server_fakes import make_avatar

README = Path(__file__).resolve().parents[3] / "README.md"


def example(imports: str) -> Any:
    """The `main` of the example with that import."""
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(next(text for text in examples if imports in text), names)
    return names["main"]


def test_the_example_over_webrtc_says_a_sentence_and_sees_it(tmp_path: Path) -> None:
    make_avatar(tmp_path, "anna")

    async def main() -> None:
        async with served(avatar_dirs=(tmp_path,)) as (url, _):
            async with asyncio.timeout(20):
                latency, pictures, loudest = await example("webrtc_call")(
                    url, np.full(40_000, 3000, np.int16)
                )
        assert latency.p50 > 0 and pictures > 15 and loudest > 1000

    asyncio.run(main())


def test_the_example_over_a_websocket_saves_the_pictures_of_a_sentence(tmp_path: Path) -> None:
    make_avatar(tmp_path / "avatars", "anna")
    speech, folder = tmp_path / "speech.wav", tmp_path / "pictures"
    folder.mkdir()
    with wave.open(str(speech), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(np.full(12_800, 3000, np.int16).tobytes())

    async def main() -> None:
        async with served(avatar_dirs=(tmp_path / "avatars",)) as (url, _):
            async with asyncio.timeout(20):
                await example("socket_call")(url, str(speech), folder)

    asyncio.run(main())
    pictures = sorted(folder.iterdir())
    assert len(pictures) >= 18  # 0.8 s
    assert all(int(path.stem) % 40_000 == 0 for path in pictures)
    shown = cv2.imread(str(pictures[0]))
    assert shown is not None and shown.shape == (48, 64, 3)
