"""What visitors do on the page, and what they then see and hear."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page

PageOpener = Callable[..., Page]

NO_FIGURE = "\N{EN DASH}"
LIVE = "html[data-state='live'][data-picture]"
# Resolves when the returned sound has been loud, or quiet, for `row` readings, 20 ms apart.
HEAR = """
async ({loud, seconds = 20, row: wanted = loud ? 2 : 8}) => {
  const sound = new AudioContext();
  await sound.resume();
  const analyser = sound.createAnalyser();
  sound.createMediaStreamSource(document.getElementById("synced").srcObject).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const last = performance.now() + 1000 * seconds;
  for (let row = 0; row < wanted; ) {
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


def sessions_of(page: Page) -> list[str]:
    """Collects the addresses of the sessions that a page begins from now on."""
    sessions: list[str] = []
    page.on(
        "response",
        lambda response: (
            sessions.append(response.headers["location"]) if response.status == 201 else None
        ),
    )
    return sessions
