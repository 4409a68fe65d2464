"""The README's example, as it stands there."""

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


def test_the_readmes_example_saves_the_pictures_of_a_sentence(tmp_path: Path) -> None:
    example = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(example, names)
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
                await names["main"](url, str(speech), folder)

    asyncio.run(main())
    pictures = sorted(folder.iterdir())
    assert len(pictures) >= 18  # 0.8 s
    assert all(int(path.stem) % 40_000 == 0 for path in pictures)
    shown = cv2.imread(str(pictures[0]))
    assert shown is not None and shown.shape == (48, 64, 3)
