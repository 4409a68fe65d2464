"""What comes from outside the page in a call: blocked sound, a frozen tab, a network that goes."""

from __future__ import annotations

from urllib.parse import urljoin
from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import Page, expect

from tests.browser.page_actions import HEAR, LIVE, SHOW_FRAMES, PageOpener, sessions_of, start
from tests.browser.real_server import Speech

pytestmark = pytest.mark.browser

# Nothing plays before a click on the card, as where the browser has seen none.
BLOCKED = """
let allowed = false;
addEventListener("click", ({target}) => (allowed ||= target.id === "card-act"), {capture: true});
const play = HTMLMediaElement.prototype.play;
HTMLMediaElement.prototype.play = function () {
  if (allowed || this.muted) return play.call(this);
  return Promise.reject(new DOMException("play() failed", "NotAllowedError"));
};
"""
KEEP_CONTEXTS = """
window.contexts = [];
window.AudioContext = class extends AudioContext {
  constructor(...options) {
    super(...options);
    window.contexts.push(this);
  }
};
"""
SUSPEND = "() => Promise.all(window.contexts.map((context) => context.suspend()))"
AWAKE = "() => window.contexts.every(({state}) => state === 'running')"
LOUD = "() => Number(document.getElementById('level').ariaValueNow) > 30"


@pytest.fixture(scope="module")
def backend() -> str:
    return "passthrough"


def freeze(page: Page, frozen: bool) -> None:
    """The browser stops the page's timers, as it does to tabs in the background, or goes on."""
    state = {"state": "frozen" if frozen else "active"}
    page.context.new_cdp_session(page).send("Page.setWebLifecycleState", state)


def test_blocked_sound_waits_for_one_click(open_page: PageOpener) -> None:
    page = open_page(script=BLOCKED)
    page.locator("#start").click()
    expect(page.locator("#card")).to_contain_text("Your browser waits for a click")
    expect(page.locator("#state")).to_have_text("Live")
    page.get_by_role("button", name="Play", exact=True).click()
    page.locator(LIVE).wait_for(state="attached")
    expect(page.locator("#card")).to_be_hidden()
    page.evaluate(HEAR, {"loud": True})


def test_a_picture_that_the_system_stopped_goes_on(open_page: PageOpener) -> None:
    page = open_page()
    start(page)
    page.evaluate("document.getElementById('synced').pause()")
    page.evaluate(SHOW_FRAMES, 5)
    expect(page.locator("#card")).to_be_hidden()


def test_the_level_goes_on_after_the_browser_suspended_sound(open_page: PageOpener) -> None:
    page = open_page(script=KEEP_CONTEXTS)
    start(page)
    page.wait_for_function(LOUD)
    page.evaluate(SUSPEND)
    page.wait_for_function(AWAKE)
    page.wait_for_function(LOUD)


def test_a_file_goes_on_after_the_browser_suspended_sound(
    open_page: PageOpener, speech: Speech
) -> None:
    page = open_page(script=KEEP_CONTEXTS)
    page.get_by_text("Sound file", exact=True).click()
    page.locator("#file").set_input_files(speech.path)
    start(page)
    page.evaluate(SUSPEND)
    page.wait_for_function(AWAKE)
    page.evaluate(HEAR, {"loud": True})


def test_a_tab_that_was_frozen_shows_the_call_again(open_page: PageOpener) -> None:
    page = open_page()
    sessions = sessions_of(page)
    start(page)
    freeze(page, True)
    freeze(page, False)
    page.evaluate(SHOW_FRAMES, 5)
    expect(page.locator("#state")).to_have_text("Live")
    assert len(sessions) == 1


def test_a_call_lost_without_a_network_says_so_and_comes_back_with_it(
    open_page: PageOpener,
) -> None:
    page = open_page()
    sessions = sessions_of(page)
    start(page)
    page.context.set_offline(True)
    expect(page.locator("#state")).to_have_text("Live")  # media goes on for as long as it can
    with urlopen(Request(urljoin(page.url, sessions[0]), method="DELETE")):
        pass
    expect(page.locator("#card")).to_contain_text("This computer is offline")
    page.context.set_offline(False)
    page.locator(LIVE).wait_for(state="attached")
