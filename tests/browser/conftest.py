"""A real headless Chromium with a fake microphone and camera, and real server processes.

Both take seconds to start, so the tests of this folder share them: every page has a context of its
own, and every test leaves the server without a call.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import wave
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.real_server import (
    AVATARS,
    F64,
    MICROPHONE_HZ,
    REPOSITORY,
    Server,
    Speech,
    wait_until,
)

CHROMIUM = Path("/usr/bin/chromium")
PAUSE_S = 1.6
SENTENCES = (
    "My mother may bake a big apple pie for Bob.",
    "We saw a yellow boat move away over the water.",
)
CAMERA_SIZE = (640, 480)
CAMERA_FRAMES = 50
START_LIMIT_S = 60


def _needs(present: bool, what: str) -> None:
    """Skips where a tool is absent, but fails in CI, which is to have it."""
    if present:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is absent; .ci/run installs it")
    pytest.skip(f"{what} is absent: apt-get install chromium espeak-ng")


class Shared:
    """What was started for this folder's tests: a browser, and a server of each kind."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.browser: Browser | None = None
        self.servers: dict[tuple[str, ...], Server] = {}

    def end(self) -> None:
        self.stack.close()
        self.browser = None
        self.servers.clear()


SHARED = pytest.StashKey[Shared]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[SHARED] = Shared()


@pytest.fixture(scope="session")
def shared(pytestconfig: pytest.Config) -> Shared:
    return pytestconfig.stash[SHARED]


@pytest.hookimpl(trylast=True)  # after the test's own fixtures
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Ends what is shared after the folder's last test: playwright holds asyncio's loop."""
    folder = Path(__file__).parent
    if nextitem is None or folder not in nextitem.path.parents:
        item.config.stash[SHARED].end()


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="session")
def speech(scratch: Path) -> Speech:
    """Two sentences by espeak-ng with a pause before each."""
    _needs(shutil.which("espeak-ng") is not None, "espeak-ng")
    parts: list[F64] = []
    for number, sentence in enumerate(SENTENCES):
        path = scratch / f"sentence{number}.wav"
        subprocess.run(["espeak-ng", "-s", "150", "-w", path, sentence], check=True, timeout=30)
        parts += [np.zeros(int(PAUSE_S * MICROPHONE_HZ)), _read_wav(path)]
    samples = np.concatenate(parts)
    path = scratch / "microphone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(MICROPHONE_HZ)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return Speech(path, samples)


def _read_wav(path: Path) -> F64:
    """The sound at 48 kHz, its silent ends cut off, at most 0.7 loud."""
    with wave.open(str(path)) as file:
        rate = file.getframerate()
        raw = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768
    times = np.arange(int(len(raw) * MICROPHONE_HZ / rate)) * rate / MICROPHONE_HZ
    samples = np.interp(times, np.arange(len(raw)), raw)
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    kept: F64 = samples[loud[0] : loud[-1]]
    louder: F64 = kept * (0.7 / np.abs(kept).max())
    return louder


@pytest.fixture(scope="session")
def camera_file(scratch: Path) -> Path:
    """An avatar's clip as the picture of a 640 x 480 camera."""
    path = scratch / "camera.y4m"
    width, height = CAMERA_SIZE
    with av.open(str(AVATARS / "anna" / "clip.mp4")) as clip, path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n".encode())
        for number, frame in enumerate(clip.decode(video=0)):
            if number == CAMERA_FRAMES:
                break
            face = cv2.resize(frame.to_ndarray(format="bgr24"), (height, height))
            picture = np.full((height, width, 3), 96, np.uint8)
            left = (width - height) // 2
            picture[:, left : left + height] = face
            file.write(b"FRAME\n" + cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420).tobytes())
    return path


@pytest.fixture(scope="module")
def backend() -> str:
    """What runs the network; modules that need no model say "passthrough"."""
    return "auto"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """What the server's environment says beyond the defaults."""
    return {"LIPWIRE_MAX_UPLOAD_MB": "0"}


@pytest.fixture(scope="module")
def server(shared: Shared, scratch: Path, backend: str, settings: dict[str, str]) -> Server:
    """`lipwire serve` with the bundled avatars and one place."""
    kind = (backend, *(f"{name}={value}" for name, value in sorted(settings.items())))
    if kind not in shared.servers:
        log = scratch / f"server{len(shared.servers)}.log"
        running = shared.stack.enter_context(_serve(log, backend, settings))
        shared.servers[kind] = running
    return shared.servers[kind]


@contextmanager
def _serve(log: Path, backend: str, settings: dict[str, str]) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "server.cli", "serve"]
    command += ["--port", str(port), "--max-sessions", "1", "--backend", backend]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=output, stderr=output, env=os.environ | settings
        )
    running = Server(f"http://127.0.0.1:{port}", log, process.pid)
    try:
        wait_until(lambda: _is_ready(running, process), START_LIMIT_S, f"the server, see {log}")
        yield running
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_ready(server: Server, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"the server ended:\n{server.log.read_text(errors='replace')}"
    try:
        with urllib.request.urlopen(f"{server.url}/readyz", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def browser(shared: Shared, speech: Speech, camera_file: Path) -> Browser:
    """Chromium; permission for microphone and camera is each context's affair."""
    _needs(CHROMIUM.exists(), str(CHROMIUM))
    flags = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--autoplay-policy=no-user-gesture-required",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={speech.path}",
        f"--use-file-for-fake-video-capture={camera_file}",
    ]
    if shared.browser is None:
        playwright = shared.stack.enter_context(sync_playwright())
        shared.browser = playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=flags, timeout=60_000
        )
        shared.stack.callback(shared.browser.close)
    return shared.browser


@pytest.fixture(scope="module")
def open_context(browser: Browser, server: Server) -> Iterator[Callable[..., BrowserContext]]:
    """Makes contexts, and closes them at the end.

    Args:
        devices: microphone and camera are allowed, else refused.
        size: of the window.
        script: runs before the page's own.
        options: of `Browser.new_context`.
    """
    contexts: list[BrowserContext] = []

    def make(
        *,
        devices: bool = True,
        size: tuple[int, int] = (1280, 800),
        script: str = "",
        **options: Any,
    ) -> BrowserContext:
        context = browser.new_context(
            base_url=server.url,
            viewport={"width": size[0], "height": size[1]},
            # A grant refuses everything that it does not name; no grant leaves the question open.
            permissions=["microphone", "camera"] if devices else ["geolocation"],
            **options,
        )
        context.set_default_timeout(20_000)
        if script:
            context.add_init_script(script)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def open_page(
    open_context: Callable[..., BrowserContext], server: Server
) -> Iterator[Callable[..., Page]]:
    """Opens Lipwire's page in a context of its own; closed, and the place free, after the test."""
    server.wait_until_free()
    opened: list[Page] = []

    def make(address: str = "/", **options: Any) -> Page:
        page = open_context(**options).new_page()
        opened.append(page)
        page.goto(address)
        page.locator("#faces input").first.wait_for(state="attached")
        return page

    yield make
    for page in opened:
        page.context.close()
    server.wait_until_free()
