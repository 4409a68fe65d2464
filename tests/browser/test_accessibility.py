"""The page for everybody: keyboard, screen reader, contrast, motion, window sizes."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.browser.page_actions import PageOpener, problems_of, sessions_of, start
from tests.browser.real_server import Server

pytestmark = pytest.mark.browser

SIZES = [(1440, 900), (1024, 768), (390, 844), (320, 568), (844, 390)]
AA_TEXT = 4.5
SILENT_MICROPHONE = """
navigator.mediaDevices.getUserMedia = async () => {
  throw new DOMException("", "NotFoundError");
};
"""
# Contrast of an element's words with its own background over a white picture and over a black one.
CONTRAST = """
(element) => {
  const rgba = (text) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [[r, g, b], a / 255];
  };
  const luminance = (rgb) => {
    const linear = rgb.map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const style = getComputedStyle(element);
  const alpha = Number(style.backgroundColor.match(/[\\d.]+(?=%?\\)$)/)[0]);
  const [ground] = rgba(style.backgroundColor.replace(/[\\d.]+\\)$/, "1)"));
  const words = luminance(rgba(style.color)[0]);
  return [255, 0].map((picture) => {
    const behind = luminance(ground.map((c) => c * alpha + picture * (1 - alpha)));
    const [light, dark] = words > behind ? [words, behind] : [behind, words];
    return (light + 0.05) / (dark + 0.05);
  });
}
"""
# What Tab reaches, in order, and whether it can be seen that it has the focus.
FOCUS = """
() => {
  const element = document.activeElement;
  const drawn = [element, element.nextElementSibling].filter(Boolean);
  const ring = drawn.some((part) => {
    const style = getComputedStyle(part);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  });
  return [element === document.body ? "" : element.id || element.value || element.name, ring];
}
"""


@pytest.fixture(scope="module")
def backend() -> str:
    return "passthrough"


def violations(page: Page) -> list[str]:
    """What axe finds wrong with the page as it is."""
    found: dict[str, Any] = Axe().run(page).response
    return [
        f"{rule['id']}: {node['html'][:120]} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_any_state(open_page: PageOpener, scheme: str) -> None:
    page = open_page(color_scheme=scheme, reduced_motion="reduce")
    assert violations(page) == []
    start(page)
    page.keyboard.press("l")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert violations(page) == []
    page.keyboard.press("Escape")
    page.evaluate(f"() => {{{SILENT_MICROPHONE}}}")
    page.locator("#start").click()
    page.locator("#start").click()
    expect(page.locator("#card")).to_be_visible()
    assert violations(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_over_the_picture_can_be_read_over_any_picture(
    open_page: PageOpener, scheme: str
) -> None:
    page = open_page(color_scheme=scheme)
    page.locator("#toast").evaluate("(toast) => { toast.hidden = false; toast.textContent = 'x' }")
    for words in ("#hint", "#toast"):
        assert min(page.locator(words).evaluate(CONTRAST)) > AA_TEXT, words


def test_tab_reaches_everything_and_leaves_the_page(open_page: PageOpener) -> None:
    page = open_page()
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name, ring = page.evaluate(FOCUS)
        if not name:
            break
        assert ring, f"{name} has the focus, and nothing shows it"
        reached.append(name)
    else:
        pytest.fail(f"Tab does not get out of {reached}")
    # "microphone" twice: the kind of voice, and the menu.
    wanted = "shortcuts-button latency-button amara microphone microphone test speaker start quiet"
    assert reached == wanted.split()


def test_a_call_can_be_made_with_the_keyboard_alone(open_page: PageOpener) -> None:
    page = open_page()
    page.locator("#faces input").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Anna")).to_be_checked()
    page.keyboard.press("s")
    expect(page.locator("#state")).to_have_text("Live")
    page.keyboard.press("m")
    expect(page.get_by_role("button", name="Mute")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("s")
    expect(page.locator("#state")).to_have_text("Ready")


def test_single_letters_can_be_turned_off_for_good(open_page: PageOpener) -> None:
    page = open_page()
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_be_visible()
    page.keyboard.press("s")
    expect(page.locator("#state")).to_have_text("Ready")
    page.get_by_label("Single letters are shortcuts").uncheck()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.locator("#shortcuts-button")).to_be_visible()
    page.reload()
    page.locator("#faces input").first.wait_for(state="attached")
    page.keyboard.press("l")
    expect(page.locator("#latency-panel")).to_be_hidden()
    page.keyboard.press("?")
    expect(dialog).to_be_visible()


def test_a_letter_typed_into_a_menu_is_no_shortcut(open_page: PageOpener) -> None:
    page = open_page()
    page.locator("#microphone").focus()
    page.keyboard.press("l")
    expect(page.locator("#latency-panel")).to_be_hidden()


def test_states_and_refusals_are_announced(open_page: PageOpener) -> None:
    page = open_page(script=SILENT_MICROPHONE)
    expect(page.get_by_role("status").filter(has_text="Ready")).to_be_visible()
    page.locator("#start").click()
    expect(page.get_by_role("alert")).to_contain_text("No microphone was found")
    assert page.locator("#countdown").get_attribute("aria-hidden") == "true"


def test_nothing_moves_for_those_who_do_not_want_it(open_page: PageOpener) -> None:
    page = open_page(reduced_motion="reduce")
    page.evaluate("document.documentElement.dataset.state = 'connecting'")
    assert page.locator(".dot").evaluate("(dot) => getComputedStyle(dot).animationName") == "none"


@pytest.mark.parametrize("size", SIZES)
def test_nothing_jumps_from_start_to_loss(open_page: PageOpener, size: tuple[int, int]) -> None:
    page = open_page(size=size)
    sessions = sessions_of(page)

    def places() -> list[Any]:
        return [
            page.locator(part).bounding_box() for part in (".stage", ".strip", "#start", "#mute")
        ]

    idle = places()
    start(page)
    expect(page.locator("#latency")).not_to_have_text("\N{EN DASH}")
    assert places() == idle
    page.route("**/v1/sessions?*", lambda route: route.abort())
    page.request.delete(sessions[0])
    expect(page.locator("#card")).to_be_visible()
    assert places() == idle


@pytest.mark.parametrize("size", SIZES)
def test_a_card_and_a_long_state_fit(open_page: PageOpener, size: tuple[int, int]) -> None:
    page = open_page(size=size)
    error = {"code": "draining", "message": "this server is about to end and takes no new calls"}
    page.route("**/v1/sessions?*", lambda route: route.fulfill(status=503, json={"error": error}))
    page.locator("#start").click()
    expect(page.locator("#card")).to_be_visible()
    hidden = "({scrollHeight, clientHeight}) => scrollHeight - clientHeight"
    assert page.locator("#card").evaluate(hidden) == 0, "the card's end cannot be seen"
    key = page.locator("#shortcuts-button").bounding_box()
    assert key is not None and key["width"] == key["height"]


@pytest.mark.parametrize("size", SIZES)
def test_the_page_fits_and_loads_nothing_from_elsewhere(
    open_page: PageOpener, server: Server, size: tuple[int, int]
) -> None:
    page = open_page(size=size)
    hosts: set[str] = set()
    page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
    problems = problems_of(page)
    page.reload(wait_until="networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    if size[0] > 920:
        assert page.evaluate("document.documentElement.scrollHeight") <= size[1]
    start = page.locator("#start").bounding_box()
    assert start is not None and start["y"] + start["height"] <= size[1]
    assert hosts - {""} == {urlsplit(server.url).netloc}
    assert problems == []
