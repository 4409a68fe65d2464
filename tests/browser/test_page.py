"""The page in a real Chromium against the real server and model: lips, sound and frames."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import BrowserContext

from tests.browser.mouth_motion import (
    PATCH,
    correlation,
    distance_from_rest,
    mouth_box,
    patches_of,
    resting_patches,
    smooth,
    speech_and_silence,
)
from tests.browser.page_actions import HEAR, start
from tests.browser.real_server import AVATARS, Server, Speech

pytestmark = pytest.mark.browser

AVATAR = AVATARS / "anna"

# Records, frame by frame, when it was shown, how loud the returned sound is just then, and a patch
# of the picture, until `seconds` have passed.
RECORD = """
async ({seconds, box, patch}) => {
  const video = document.getElementById("synced");
  const sound = new AudioContext();
  await sound.resume();
  const analyser = sound.createAnalyser();
  analyser.fftSize = 2048;
  sound.createMediaStreamSource(video.srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const canvas = new OffscreenCanvas(...patch).getContext("2d", {willReadFrequently: true});
  const times = [], levels = [], pixels = [];
  const first = performance.now();
  await new Promise((resolve) => {
    const take = (now) => {
      analyser.getFloatTimeDomainData(samples);
      levels.push(Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length));
      times.push(now / 1000);
      canvas.drawImage(video, box.x, box.y, box.width, box.height, 0, 0, patch[0], patch[1]);
      pixels.push(canvas.getImageData(0, 0, patch[0], patch[1]).data);
      if (now - first > 1000 * seconds) resolve();
      else video.requestVideoFrameCallback(take);
    };
    video.requestVideoFrameCallback(take);
  });
  sound.close();
  const bytes = await new Blob(pixels).arrayBuffer();
  const url = await new Promise((resolve) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.readAsDataURL(new Blob([bytes]));
  });
  return {times, levels, pixels: url.split(",")[1]};
}
"""


@dataclass(frozen=True, slots=True)
class Recording:
    """What a visitor saw and heard while the fake microphone spoke its loop once.

    Attributes:
        times_s: [n] when each frame was shown.
        loud: [n] the returned sound's level just then.
        opening: [n] the mouth's distance from rest in grey levels.
    """

    times_s: NDArray[np.float64]
    loud: NDArray[np.float64]
    opening: NDArray[np.float64]


@pytest.fixture(scope="module")
def recording(
    open_context: Callable[..., BrowserContext], speech: Speech, server: Server
) -> Recording:
    page = open_context().new_page()
    page.goto("/")
    page.locator("#faces").get_by_text("Anna").click()
    start(page)
    page.evaluate(HEAR, {"loud": True})  # the connection and the engine are warm by then
    box = mouth_box(AVATAR)
    data: dict[str, Any] = page.evaluate(
        RECORD, {"seconds": speech.seconds, "box": asdict(box), "patch": PATCH}
    )
    page.context.close()
    server.wait_until_free()
    patches = patches_of(base64.b64decode(data["pixels"]))
    return Recording(
        np.array(data["times"]),
        np.array(data["levels"]),
        distance_from_rest(patches, resting_patches(AVATAR, box)),
    )


def test_frames_keep_arriving(recording: Recording) -> None:
    gaps = np.diff(recording.times_s)
    # 25 are sent; a browser that draws in software on a busy machine skips some.
    assert len(gaps) / gaps.sum() > 12, "frames a second"
    assert gaps.max() < 1.0, "longest freeze in seconds"


def test_what_was_said_comes_back(recording: Recording, speech: Speech) -> None:
    """The returned sound has the loudness of the fake microphone's file, at some delay."""
    heard = smooth(recording.loud, recording.times_s, 0.24)
    said = [
        correlation(heard, speech.loudness(recording.times_s + delay, 0.24))
        for delay in np.arange(0, speech.seconds, 0.04)
    ]
    assert max(said) > 0.8


def test_the_mouth_moves_with_the_speech_and_rests_in_silence(recording: Recording) -> None:
    speech, silence = speech_and_silence(recording.loud, recording.times_s)
    assert speech.sum() > 25 and silence.sum() > 8, "frames of either kind"
    spoken, rest = recording.opening[speech], recording.opening[silence]
    assert np.median(spoken) > 3.0 * np.median(rest)
    assert np.percentile(rest, 90) < np.median(spoken)
    moving = smooth(recording.opening, recording.times_s, 0.4)
    voice = smooth(recording.loud, recording.times_s, 0.4)
    assert correlation(moving, voice) > 0.5
