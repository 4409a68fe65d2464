"""The page in Chromium over a link that loses packets, and after it was cut.

    python -m benchmarks.browser_loss --json browser_loss.json      # as root

Server and headless Chromium live in network namespaces of their own. Media takes the link of
`benchmarks.faulty_link`, HTTP a relay beside it. For each share of loss the page makes one call
with an avatar, and the browser's own figures over `--seconds` are taken: pictures shown, freezes,
sound that was concealed, buffers, and by how much lips and sound are apart at their display. At
last the link, HTTP too, is cut in mid-call, for so short that the connection lives on, and for so
long that the page makes another one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
import wave
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, async_playwright

from benchmarks.caller import SOUND_HZ
from benchmarks.faulty_link import Link, LinkFaults, linked_namespaces
from benchmarks.latency import Spread, speech_with_clicks
from benchmarks.namespace_relay import Relay, relay
from benchmarks.report import here

CHROMIUM = Path("/usr/bin/chromium")
PORT = 8080  # of the namespaces' own loopback
SPEECH_S = 60.0
SETTLE_S = 5.0
CUTS_S = (5.0, 9.0)
START_TIMEOUT_S = 120.0
BACK_TIMEOUT_S = 30.0
LIVE = "html[data-state='live'][data-picture]"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
)
# Keeps every connection of the page, so that its figures can be asked for.
KEEP_CONNECTIONS = """
window.connections = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...given) { super(...given); window.connections.push(this); }
};
"""
# Notes when each picture is shown, from now on.
FOLLOW_PICTURES = """
() => {
  const video = document.getElementById("synced");
  window.shown = [];
  const note = (now) => { window.shown.push(now); video.requestVideoFrameCallback(note); };
  video.requestVideoFrameCallback(note);
}
"""
# What came in over the newest connection, and what the page's own meter says.
READ = """
async () => {
  const inbound = {};
  for (const entry of (await window.connections.at(-1).getStats()).values()) {
    if (entry.type === "inbound-rtp") inbound[entry.kind] = entry;
  }
  const latency = parseInt(document.getElementById("latency").textContent, 10);
  return {inbound, latency, connections: window.connections.length, at: performance.now()};
}
"""
COUNT_CONNECTIONS = "() => window.connections.length"


def write_speech(path: Path) -> None:
    """The microphone's sound, as a WAV file that Chromium repeats."""
    samples, _ = speech_with_clicks(SPEECH_S, None)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SOUND_HZ)
        file.writeframes(samples.astype("<i2").tobytes())


def write_launcher(path: Path, namespace: str) -> None:
    """A command that starts Chromium in a namespace."""
    path.write_text(f'#!/bin/sh\nexec ip netns exec {namespace} {CHROMIUM} "$@"\n', "utf-8")
    path.chmod(0o755)


@contextlib.asynccontextmanager
async def server_inside(namespace: str, backend: str) -> AsyncIterator[None]:
    """`lipwire serve` in a namespace, until the end of the block.

    Raises:
        RuntimeError: it ended before it was ready.
    """
    process = await asyncio.create_subprocess_exec(
        "ip", "netns", "exec", namespace, sys.executable, "-m", "server", "serve",
        "--port", str(PORT), "--max-sessions", "1", "--no-calibration",
        "--backend", backend, "--log-level", "warning",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while "is ready" not in (line := (await process.stdout.readline()).decode()):
                if not line:
                    raise RuntimeError("the server ended before it was ready; its log says why")
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def call(browser: Browser) -> AsyncIterator[Page]:
    """The page in a call that shows pictures."""
    context = await browser.new_context(
        base_url=f"http://127.0.0.1:{PORT}", permissions=["microphone", "camera"]
    )
    try:
        await context.add_init_script(KEEP_CONNECTIONS)
        page = await context.new_page()
        await page.goto("/")
        await page.locator("#faces input").first.wait_for(state="attached")
        await page.locator("#start").click()
        await page.locator(LIVE).wait_for(state="attached", timeout=30_000)
        await asyncio.sleep(SETTLE_S)
        await page.evaluate(FOLLOW_PICTURES)
        yield page
        await page.locator("#start").click()  # it hangs up
    finally:
        await context.close()


async def measure_loss(browser: Browser, link: Link, loss: float, seconds: float) -> dict[str, Any]:
    """What the browser says of one call over a link that loses so much each way."""
    link.faults = LinkFaults(loss=loss)
    async with call(browser) as page:
        readings = [await page.evaluate(READ)]
        while readings[-1]["at"] - readings[0]["at"] < 1000 * seconds:
            await asyncio.sleep(1.0)
            readings.append(await page.evaluate(READ))
        shown = await page.evaluate("() => window.shown")
    return {"loss": loss, **figures_of(readings, shown)}


def figures_of(readings: Sequence[dict[str, Any]], shown: Sequence[float]) -> dict[str, Any]:
    """The difference between the first and the last reading, and what pictures did meanwhile.

    Args:
        readings: one a second.
        shown: when pictures were shown, in the page's ms.
    """
    first, last = readings[0], readings[-1]
    seconds = (last["at"] - first["at"]) / 1000
    video, sound = (_since(first, last, kind) for kind in ("video", "audio"))
    during = [at for at in shown if first["at"] <= at <= last["at"]]
    gaps = [after - before for before, after in itertools.pairwise(during)]
    apart = [skew for reading in readings if (skew := lips_minus_sound_ms(reading)) is not None]
    return {
        "seconds": round(seconds, 1),
        "pictures_decoded_a_second": round(video["framesDecoded"] / seconds, 2),
        "pictures_shown_a_second": round(len(during) / seconds, 2),
        "longest_gap_ms": round(max(gaps), 1) if gaps else None,
        "freezes": video["freezeCount"],
        "frozen_ms": round(1000 * video["totalFreezesDuration"]),
        "picture_buffer_ms": _mean_ms(video, "jitterBufferDelay", "jitterBufferEmittedCount"),
        "sound_buffer_ms": _mean_ms(sound, "jitterBufferDelay", "jitterBufferEmittedCount"),
        "concealed_percent": round(
            100 * sound["concealedSamples"] / max(sound["totalSamplesReceived"], 1), 2
        ),
        "packets_lost": {"picture": video["packetsLost"], "sound": sound["packetsLost"]},
        "asked_again": video["nackCount"],
        "key_frames_asked": video["pliCount"],
        "lips_minus_sound_ms": asdict(Spread.of(apart)),
        "voice_to_lips_ms": asdict(Spread.of([r["latency"] for r in readings if r["latency"]])),
    }


def lips_minus_sound_ms(reading: dict[str, Any]) -> float | None:
    """How far behind its sound the picture on the screen is; None until the browser knows.

    Both are the sender's times, from its reports, of what is played at one moment.
    """
    played = [
        reading["inbound"].get(kind, {}).get("estimatedPlayoutTimestamp")
        for kind in ("audio", "video")
    ]
    if None in played:
        return None
    return float(played[0] - played[1])


def _since(first: dict[str, Any], last: dict[str, Any], kind: str) -> dict[str, Any]:
    before, after = first["inbound"][kind], last["inbound"][kind]
    return {
        name: value - before.get(name, 0)
        for name, value in after.items()
        if isinstance(value, int | float)
    }


def _mean_ms(figures: dict[str, Any], total: str, count: str) -> float | None:
    if not figures[count]:
        return None
    return round(1000 * float(figures[total] / figures[count]), 1)


async def measure_cut(browser: Browser, link: Link, http: Relay, seconds: float) -> dict[str, Any]:
    """How long after so many seconds without a network the page shows pictures again."""
    link.faults = LinkFaults()
    async with call(browser) as page:
        connections = await page.evaluate(COUNT_CONNECTIONS)
        link.faults, http.cut = LinkFaults(loss=1.0), True
        await asyncio.sleep(seconds)
        said = [await page.locator(part).inner_text() for part in ("#state", "#toast")]
        link.faults, http.cut = LinkFaults(), False
        back_at = await page.evaluate("() => performance.now()")
        first: float | None = None
        deadline = time.monotonic() + BACK_TIMEOUT_S
        while first is None and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            shown = await page.evaluate("() => window.shown")
            first = next((at for at in shown if at > back_at), None)
        connections = await page.evaluate(COUNT_CONNECTIONS) - connections
    return {
        "cut_s": seconds,
        "page_said": said,
        "pictures_again_after_s": None if first is None else round((first - back_at) / 1000, 2),
        "new_connections": connections,
    }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The figures of every loss and every cut."""
    near, far = (f"lipwire-{os.getpid()}-{end}" for end in ("browser", "server"))
    with tempfile.TemporaryDirectory() as folder:
        speech, launcher = Path(folder) / "speech.wav", Path(folder) / "chromium"
        write_speech(speech)
        write_launcher(launcher, near)
        async with (
            linked_namespaces((near, far), LinkFaults()) as link,
            server_inside(far, options.backend),
            relay(near, far, PORT) as http,
            async_playwright() as playwright,
        ):
            browser = await playwright.chromium.launch(
                executable_path=launcher,
                args=[*FLAGS, f"--use-file-for-fake-audio-capture={speech}"],
                timeout=60_000,
            )
            version = browser.version
            losses = [
                await measure_loss(browser, link, loss, options.seconds) for loss in options.losses
            ]
            cuts = [await measure_cut(browser, link, http, seconds) for seconds in CUTS_S]
            await browser.close()
    return {"chromium": version, "losses": losses, "cuts": cuts}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.browser_loss", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="measured of each loss (20)")
    parser.add_argument("--losses", type=float, nargs="+", default=[0.0, 0.01, 0.03, 0.05])
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(given)
    circumstances = asdict(here("python -m benchmarks.browser_loss", given))
    figures = asyncio.run(measure(options))
    circumstances["load_average"] = round(os.getloadavg()[1], 1)
    text = json.dumps({"circumstances": circumstances, **figures}, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    sys.stdout.write(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
