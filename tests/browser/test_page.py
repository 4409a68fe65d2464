"""The page in a real Chromium against the real server: what a user does and sees."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.sync_api import BrowserContext, Page, expect

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
from tests.browser.real_server import AVATARS, Server, Speech

pytestmark = pytest.mark.browser

PageOpener = Callable[..., Page]

AVATAR = AVATARS / "anna"
NO_FIGURE = "\N{EN DASH}"
LIVE = "html[data-state='live'][data-picture]"

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
# Resolves when the returned sound has been loud, or quiet, for some readings in a row.
HEAR = """
async ({loud, seconds = 20}) => {
  const sound = new AudioContext();
  await sound.resume();
  const analyser = sound.createAnalyser();
  sound.createMediaStreamSource(document.getElementById("synced").srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const last = performance.now() + 1000 * seconds;
  for (let row = 0; row < (loud ? 2 : 8); ) {
    if (performance.now() > last) throw new Error(`no ${loud ? "sound" : "silence"} came back`);
    await new Promise((resolve) => setTimeout(resolve, 20));
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, x) => sum + x * x, 0) / samples.length;
    row = Math.sqrt(power) > 0.01 === loud ? row + 1 : 0;
  }
  sound.close();
}
"""
# Resolves when `count` more frames have been shown.
SHOW_FRAMES = """
(count) => new Promise((resolve) => {
  const video = document.getElementById("synced");
  const next = () => (count-- > 0 ? video.requestVideoFrameCallback(next) : resolve());
  next();
})
"""


def start(page: Page) -> None:
    """Presses Start and waits for the first synced picture."""
    page.locator("#start").click()
    page.locator(LIVE).wait_for(state="attached")


def problems_of(page: Page) -> list[str]:
    """Collects what goes wrong in a page from now on."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    return problems


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


def test_stop_and_start_again_works(open_page: PageOpener, server: Server) -> None:
    page = open_page()
    problems = problems_of(page)
    for _ in range(2):
        start(page)
        page.evaluate(SHOW_FRAMES, 10)
        page.locator("#start").click()
        expect(page.locator("#state")).to_have_text("Ready")
        expect(page.locator("#latency")).to_have_text(NO_FIGURE)
        server.wait_until_free()
    assert problems == []


def test_another_face_can_be_chosen_during_a_call(open_page: PageOpener) -> None:
    page = open_page()
    page.locator("#faces").get_by_text("Anna").click()
    start(page)
    page.locator("#faces").get_by_text("Marco").click()
    expect(page.locator("#source-name")).to_have_text("Marco")
    page.locator("html[data-state='connecting']").wait_for(state="attached")
    page.locator(LIVE).wait_for(state="attached")
    expect(page.locator("#notice")).to_be_hidden()


def test_the_strip_shows_live_figures(open_page: PageOpener) -> None:
    page = open_page()
    start(page)
    for figure in ("latency", "server-p50", "fps", "late", "playout"):
        expect(page.locator(f"#{figure}")).not_to_have_text(NO_FIGURE)
    assert 50 < int(page.locator("#latency").inner_text()) < 3000
    page.locator("#latency-button").click()
    expect(page.locator("#parts li")).to_have_count(5)
    expect(page.locator("#latency-parts")).to_be_visible()


def test_closing_the_tab_frees_the_session(open_page: PageOpener, server: Server) -> None:
    page = open_page()
    start(page)
    page.close(run_before_unload=True)
    server.wait_until_free(seconds=3)


def test_the_camera_comes_back_as_a_picture(open_page: PageOpener) -> None:
    page = open_page()
    page.locator("#faces").get_by_text("Camera").click()
    start(page)
    page.evaluate(SHOW_FRAMES, 25)
    difference = page.evaluate(
        """
        () => {
          const read = (video) => {
            const canvas = new OffscreenCanvas(64, 48).getContext("2d");
            canvas.drawImage(video, 0, 0, 64, 48);
            return canvas.getImageData(0, 0, 64, 48).data;
          };
          const synced = read(document.getElementById("synced"));
          const camera = read(document.getElementById("camera"));
          return synced.reduce((sum, x, i) => sum + Math.abs(x - camera[i]), 0) / synced.length;
        }
        """
    )
    assert difference < 8, "mean grey levels between the camera and what came back"


def test_a_sound_file_is_heard_once_and_from_the_server(
    open_page: PageOpener, speech: Speech
) -> None:
    page = open_page()
    page.get_by_text("Sound file", exact=True).click()
    page.locator("#file").set_input_files(speech.path)
    expect(page.locator("#file-play")).to_be_visible()
    start(page)
    page.evaluate(HEAR, {"loud": True})
    expect(page.locator("#file-toggle")).to_have_attribute("aria-label", "Pause")


def test_an_interrupt_silences_the_file(open_page: PageOpener, speech: Speech) -> None:
    page = open_page()
    page.get_by_text("Sound file", exact=True).click()
    page.locator("#file").set_input_files(speech.path)
    start(page)
    page.evaluate(HEAR, {"loud": True})
    page.locator("#interrupt").click()
    expect(page.locator("#file-toggle")).to_have_attribute("aria-label", "Play")
    page.evaluate(HEAR, {"loud": False})
    expect(page.locator("#state")).to_have_text("Live")


def test_a_second_visitor_is_told_that_the_server_is_full(open_page: PageOpener) -> None:
    first, second = open_page(), open_page()
    start(first)
    second.locator("#start").click()
    expect(second.locator("#notice")).to_contain_text("all places are taken")
    expect(second.locator("#state")).to_have_text("Server is full")
    first.locator("#start").click()
    second.locator(LIVE).wait_for(state="attached")


def test_a_lost_session_comes_back_by_itself(open_page: PageOpener) -> None:
    page = open_page()
    sessions: list[str] = []
    page.on(
        "response",
        lambda response: (
            sessions.append(response.headers["location"]) if response.status == 201 else None
        ),
    )
    start(page)
    page.request.delete(sessions[0])
    page.wait_for_function("document.documentElement.dataset.state !== 'live'")
    page.locator(LIVE).wait_for(state="attached")
    assert len(sessions) == 2


def test_an_unknown_avatar_is_refused_with_a_sentence(open_page: PageOpener) -> None:
    page = open_page()
    page.locator("#faces input:checked").evaluate("(input) => { input.value = 'nobody' }")
    page.locator("#start").click()
    expect(page.locator("#notice")).to_contain_text("nobody")
    expect(page.locator("#start")).to_have_text("Start")


def test_a_refused_microphone_says_what_to_do(open_page: PageOpener, server: Server) -> None:
    page = open_page(devices=False)
    page.locator("#start").click()
    expect(page.locator("#notice")).to_contain_text("The microphone was refused. Allow it")
    expect(page.locator("#start")).to_have_text("Start")


@pytest.mark.parametrize("width", [375, 1280])
def test_the_page_fits_and_loads_nothing_from_elsewhere(
    open_context: Callable[..., BrowserContext], server: Server, width: int
) -> None:
    context = open_context(width=width, height=800)
    page = context.new_page()
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    problems = problems_of(page)
    page.goto("/", wait_until="networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert hosts - {""} == {urlsplit(server.url).netloc}
    assert problems == []
    context.close()
