"""A call on the page from Start to Stop: sources, mute, interrupt, what the server refuses."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.page_actions import (
    HEAR,
    LIVE,
    NO_FIGURE,
    SHOW_FRAMES,
    PageOpener,
    problems_of,
    start,
)
from tests.browser.real_server import Server, Speech

pytestmark = pytest.mark.browser

# Keeps what the page says to the server.
KEEP_MESSAGES = """
window.sent = [];
const send = RTCDataChannel.prototype.send;
RTCDataChannel.prototype.send = function (text) {
  window.sent.push(text);
  send.call(this, text);
};
"""


@pytest.fixture(scope="module")
def backend() -> str:
    return "passthrough"


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
    page.locator("html[data-state='connecting']").wait_for(state="attached")
    page.locator(LIVE).wait_for(state="attached")
    expect(page.get_by_role("radio", name="Marco")).to_be_checked()
    expect(page.locator("#card")).to_be_hidden()


def test_closing_the_tab_frees_the_session(open_page: PageOpener, server: Server) -> None:
    page = open_page()
    start(page)
    page.close(run_before_unload=True)
    server.wait_until_free(seconds=3)


def test_the_camera_comes_back_as_a_picture(open_page: PageOpener) -> None:
    page = open_page()
    page.locator("#faces").get_by_text("Camera").click()
    start(page)
    expect(page.locator("#camera")).to_be_visible()
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
    page.reload()
    expect(page.get_by_label("Sound file")).to_be_checked()


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


def test_a_click_a_letter_and_escape_interrupt(open_page: PageOpener) -> None:
    page = open_page(script=KEEP_MESSAGES)
    page.keyboard.press("i")  # no call yet: nothing to interrupt
    start(page)
    page.locator("#interrupt").click()
    page.keyboard.press("i")
    page.keyboard.press("Escape")
    assert page.evaluate("window.sent") == 3 * ['{"type":"interrupt"}']
    expect(page.locator("#state")).to_have_text("Live")


def test_a_file_that_is_no_sound_is_refused_by_name(open_page: PageOpener) -> None:
    page = open_page()
    page.get_by_text("Sound file", exact=True).click()
    page.locator("#start").click()
    expect(page.locator("#card")).to_contain_text("No sound file yet")
    page.locator("#file").set_input_files(
        {"name": "notes.wav", "mimeType": "audio/wav", "buffer": b"no sound"}
    )
    expect(page.locator("#card")).to_contain_text("“notes.wav” is no sound")


def test_while_muted_silence_comes_back(open_page: PageOpener) -> None:
    page = open_page()
    expect(page.locator("#mute")).to_be_disabled()
    start(page)
    page.evaluate(HEAR, {"loud": True})
    page.keyboard.press("m")
    expect(page.locator("#mute")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#level-word")).to_have_text("Muted")
    # Longer than any pause in the speech, which alone would be silence too.
    page.evaluate(HEAR, {"loud": False, "row": 120})
    page.locator("#mute").click()
    page.evaluate(HEAR, {"loud": True})


def test_the_returned_sound_can_be_turned_off_for_good(open_page: PageOpener) -> None:
    page = open_page()
    page.get_by_role("button", name="Quiet").click()
    page.reload()
    expect(page.get_by_role("button", name="Quiet")).to_have_attribute("aria-pressed", "true")
    assert page.locator("#synced").evaluate("(video) => video.muted")


def test_an_unknown_avatar_is_refused_with_a_sentence(open_page: PageOpener) -> None:
    page = open_page()
    page.locator("#faces input:checked").evaluate("(input) => { input.value = 'nobody' }")
    page.locator("#start").click()
    expect(page.locator("#card")).to_contain_text("nobody")
    expect(page.locator("#start")).to_have_text("Start")
