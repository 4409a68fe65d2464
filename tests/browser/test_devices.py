"""Microphone, camera and speaker on the page: chosen, tested, unplugged, refused."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.page_actions import HEAR, LIVE, PageOpener, sessions_of, start
from tests.browser.real_server import Speech

pytestmark = pytest.mark.browser

SECOND = "Fake Audio Input 2"
# Keeps what the page opens, so that a test can unplug it.
KEEP_TRACKS = """
window.opened = [];
const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (asked) => {
  const stream = await open(asked);
  window.opened.push(...stream.getTracks());
  return stream;
};
"""
UNPLUG = """
() => {
  const track = window.opened.at(-1);
  track.stop();
  track.dispatchEvent(new Event("ended"));
}
"""
NOTHING_ELSE = """
() => {
  navigator.mediaDevices.getUserMedia = async () => {
    throw new DOMException("Requested device not found", "NotFoundError");
  };
}
"""
# Every answer of the browser's comes half a second late.
SLOW = """
const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
navigator.mediaDevices.getUserMedia = async (asked) => {
  await new Promise((resolve) => setTimeout(resolve, 500));
  return ask(asked);
};
"""
# Another program holds the second microphone.
HELD = """
() => {
  const ask = navigator.mediaDevices.getUserMedia;
  navigator.mediaDevices.getUserMedia = async (asked) => {
    if (asked.audio.deviceId) throw new DOMException("Could not start", "NotReadableError");
    return ask(asked);
  };
}
"""
# One more microphone is listed, with the label of the first.
PLUG_IN = """
() => {
  const list = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
  navigator.mediaDevices.enumerateDevices = async () => {
    const found = await list();
    const {kind, groupId} = found.find(({kind}) => kind === "audioinput");
    return [...found, {kind, groupId, deviceId: "new", label: "New headset"}];
  };
  navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
}
"""
TURN_OFF = """
(off) => {
  const track = window.opened.at(-1);
  Object.defineProperty(track, "muted", {value: off, configurable: true});
  track.dispatchEvent(new Event(off ? "mute" : "unmute"));
}
"""
LIVE_TRACKS = "() => window.opened.filter(({readyState}) => readyState === 'live').length"
REFUSE = """
navigator.mediaDevices.getUserMedia = async () => { throw new DOMException("%s", "%s"); };
navigator.permissions.query = async () => ({state: "%s"});
"""


@pytest.fixture(scope="module")
def backend() -> str:
    return "passthrough"


def in_use(page: Page) -> str:
    """The name of the microphone that was opened last."""
    return str(page.evaluate("window.opened.at(-1).label"))


def test_a_microphone_is_tested_before_the_call(open_page: PageOpener) -> None:
    page = open_page(script=KEEP_TRACKS)
    expect(page.get_by_label("Microphone").locator("option")).to_have_count(3)
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#level-word")).to_have_text("Listening")
    page.wait_for_function("() => document.getElementById('level').ariaValueNow > 30")
    page.get_by_role("button", name="Stop test").click()
    expect(page.locator("#level-word")).to_have_text("Off")
    assert page.evaluate("window.opened.every((track) => track.readyState === 'ended')")


def test_a_test_goes_on_as_the_call(open_page: PageOpener) -> None:
    page = open_page(script=KEEP_TRACKS)
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#level-word")).to_have_text("Listening")
    start(page)
    assert page.evaluate("window.opened.map((track) => track.readyState)") == ["live"]
    expect(page.get_by_role("button", name="Test")).to_be_disabled()


def test_another_microphone_is_taken_in_a_call_and_remembered(open_page: PageOpener) -> None:
    page = open_page(script=KEEP_TRACKS)
    sessions = sessions_of(page)
    start(page)
    page.locator("#microphone").select_option(label=SECOND)
    page.wait_for_function(f"() => window.opened.at(-1).label === '{SECOND}'")
    page.evaluate(HEAR, {"loud": True})
    assert len(sessions) == 1, "no new connection is needed"
    page.reload()
    expect(page.locator("#microphone option:checked")).to_have_text(SECOND)
    start(page)
    assert in_use(page) == SECOND


def test_another_speaker_is_taken(open_page: PageOpener) -> None:
    page = open_page()
    page.locator("#speaker").select_option(label="Fake Audio Output 2")
    page.wait_for_function("() => document.getElementById('synced').sinkId.length > 10")
    page.evaluate(
        """
        () => {
          const listed = navigator.mediaDevices.enumerateDevices.bind(navigator.mediaDevices);
          navigator.mediaDevices.enumerateDevices = async () =>
            (await listed()).filter(({label}) => label !== "Fake Audio Output 2");
          navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
        }
        """
    )
    expect(page.locator("#toast")).to_contain_text("“Fake Audio Output 2” was unplugged")
    page.wait_for_function("() => document.getElementById('synced').sinkId === ''")


def test_an_unplugged_microphone_is_replaced_by_the_default(open_page: PageOpener) -> None:
    page = open_page(script=KEEP_TRACKS)
    page.locator("#microphone").select_option(label=SECOND)
    start(page)
    assert in_use(page) == SECOND
    page.evaluate(UNPLUG)
    expect(page.locator("#toast")).to_contain_text(f"“{SECOND}” was unplugged; the default")
    expect(page.locator("#microphone option:checked")).to_have_text("Default microphone")
    page.evaluate(HEAR, {"loud": True})
    expect(page.locator("#state")).to_have_text("Live")


def test_the_last_microphone_unplugged_ends_the_call(open_page: PageOpener) -> None:
    page = open_page(script=KEEP_TRACKS)
    start(page)
    page.evaluate(NOTHING_ELSE)
    page.evaluate(UNPLUG)
    expect(page.locator("#card")).to_contain_text("The microphone was unplugged")
    expect(page.locator("#state")).to_have_text("Ready")


def test_the_camera_is_seen_before_and_in_the_call(open_page: PageOpener) -> None:
    page = open_page()
    expect(page.locator("#camera-row")).to_be_hidden()
    page.locator("#faces").get_by_text("Camera").click()
    expect(page.get_by_label("Camera").last).to_be_visible()
    page.get_by_role("button", name="Test").click()
    page.wait_for_function("() => document.getElementById('camera').videoWidth > 0")
    page.locator("#faces").get_by_text("Anna").click()
    expect(page.locator("#camera")).to_be_hidden()


def test_start_during_a_test_opens_nothing_twice(open_page: PageOpener) -> None:
    page = open_page(script=KEEP_TRACKS + SLOW)
    page.get_by_role("button", name="Test").click()
    start(page)
    assert page.evaluate(LIVE_TRACKS) == 1
    page.locator("#start").click()
    assert page.evaluate(LIVE_TRACKS) == 0, "a microphone stays open after Stop"


def test_of_two_quick_choices_the_second_counts(open_page: PageOpener) -> None:
    page = open_page(script=KEEP_TRACKS + SLOW)
    start(page)
    page.locator("#microphone").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    expect(page.locator("#microphone option:checked")).to_have_text(SECOND)
    page.wait_for_function(f"() => window.opened.at(-1).label === '{SECOND}'")
    assert page.evaluate(LIVE_TRACKS) == 1
    page.evaluate(HEAR, {"loud": True})


def test_a_choice_that_cannot_be_opened_leaves_the_one_before(open_page: PageOpener) -> None:
    page = open_page(script=KEEP_TRACKS)
    start(page)
    page.evaluate(HELD)
    page.locator("#microphone").select_option(label=SECOND)
    expect(page.locator("#toast")).to_contain_text("cannot be opened; the one before")
    expect(page.locator("#microphone option:checked")).to_have_text("Default microphone")
    expect(page.locator("#state")).to_have_text("Live")
    page.evaluate(HEAR, {"loud": True})


def test_a_device_plugged_in_during_a_call_is_listed_and_changes_nothing(
    open_page: PageOpener,
) -> None:
    page = open_page(script=KEEP_TRACKS)
    start(page)
    page.evaluate(PLUG_IN)
    expect(page.locator("#microphone option").last).to_have_text("New headset")
    assert page.evaluate("window.opened.length") == 1


def test_a_permission_taken_back_in_a_call_ends_it_with_words(open_page: PageOpener) -> None:
    page = open_page(script=KEEP_TRACKS)
    start(page)
    page.context.clear_permissions()
    page.context.grant_permissions(["geolocation"])
    page.evaluate(UNPLUG)  # headless Chromium leaves the track as it is, others end it
    expect(page.locator("#card")).to_contain_text("The microphone was refused")
    expect(page.locator("#card")).to_contain_text("press Start again")
    expect(page.locator("#state")).to_have_text("Ready")


@pytest.mark.parametrize("granted", ["microphone", "camera"])
def test_of_microphone_and_camera_only_the_refused_one_is_named(
    open_page: PageOpener, granted: str
) -> None:
    page = open_page()
    page.context.clear_permissions()
    page.context.grant_permissions([granted])
    page.locator("#faces").get_by_text("Camera").click()
    page.locator("#start").click()
    refused = "camera" if granted == "microphone" else "microphone"
    expect(page.locator("#card-title")).to_have_text(f"The {refused} was refused")


def test_a_microphone_that_the_system_turned_off_is_told_of(open_page: PageOpener) -> None:
    page = open_page(script=KEEP_TRACKS)
    start(page)
    page.evaluate(TURN_OFF, True)
    expect(page.locator("#toast")).to_contain_text("turned the microphone off")
    expect(page.locator("#level-word")).to_have_text("Turned off")
    page.evaluate(TURN_OFF, False)
    expect(page.locator("#toast")).to_be_hidden()
    expect(page.locator("#level-word")).not_to_have_text("Turned off")


@pytest.mark.parametrize(
    ("name", "message", "permission", "title"),
    [
        ("NotAllowedError", "Permission denied", "denied", "The microphone was refused"),
        ("NotAllowedError", "Permission dismissed", "prompt", "The question was closed"),
        ("NotAllowedError", "Permission denied by system", "denied", "The system keeps the"),
        ("NotFoundError", "Requested device not found", "prompt", "No microphone was found"),
        ("NotReadableError", "Could not start", "granted", "The microphone cannot be opened"),
        ("OverconstrainedError", "", "granted", "The chosen microphone cannot be used"),
        ("TypeError", "odd", "granted", "The microphone could not be opened"),
    ],
)
def test_every_refusal_has_its_words(
    open_page: PageOpener, name: str, message: str, permission: str, title: str
) -> None:
    page = open_page(script=REFUSE % (message, name, permission))
    page.locator("#start").click()
    expect(page.locator("#card-title")).to_contain_text(title)
    expect(page.locator("#card-text")).not_to_be_empty()
    expect(page.locator("#start")).to_have_text("Start")
    page.get_by_role("button", name="Close this message").click()
    expect(page.locator("#card")).to_be_hidden()


def test_a_refused_microphone_says_what_to_do(open_page: PageOpener) -> None:
    page = open_page(devices=False)
    page.locator("#start").click()
    expect(page.locator("#card")).to_contain_text("The microphone was refused")
    expect(page.locator("#card")).to_contain_text("settings beside the page's address")


def test_without_https_a_sound_file_still_works(open_page: PageOpener, speech: Speech) -> None:
    page = open_page(script="delete Navigator.prototype.mediaDevices")
    page.locator("#start").click()
    expect(page.locator("#card")).to_contain_text("only to pages from https or localhost")
    page.get_by_text("Sound file", exact=True).click()
    page.locator("#file").set_input_files(speech.path)
    page.locator("#start").click()
    page.locator(LIVE).wait_for(state="attached")
