"""Lost and refused connections: what the page says, how long it waits, and that it comes back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.browser.page_actions import LIVE, SHOW_FRAMES, PageOpener, sessions_of, start
from tests.browser.real_server import Server

pytestmark = pytest.mark.browser

COUNTDOWN = re.compile(r"Trying again in \d+ s")
# Mean brightness of what the visitor sees of the kept picture, before it is dimmed.
KEPT_PICTURE = """
() => {
  const last = document.getElementById("last");
  if (last.hidden) return 0;
  const {data} = last.getContext("2d").getImageData(0, 0, last.width, last.height);
  return data.reduce((sum, value) => sum + value, 0) / data.length;
}
"""
# The connectivity checks of both sides go nowhere, as behind a firewall that drops UDP.
NO_UDP = """
const address = /^(a=candidate:\\S+ \\d \\S+ \\d+) \\S+ \\d+/gm;
const nowhere = (sdp) => sdp.replace(address, "$1 192.0.2.1 9");
const set = RTCPeerConnection.prototype.setRemoteDescription;
RTCPeerConnection.prototype.setRemoteDescription = function ({type, sdp}) {
  return set.call(this, {type, sdp: nowhere(sdp)});
};
const post = window.fetch;
window.fetch = (url, options = {}) =>
  post(url, options.body ? {...options, body: nowhere(options.body)} : options);
const timeout = window.setTimeout;
window.setTimeout = (run, ms) => timeout(run, ms === 12000 ? 300 : ms);
"""
NO_CANDIDATES = """
Object.defineProperty(RTCSessionDescription.prototype, "sdp", {
  get() { return "v=0\\r\\n"; },
});
"""

KEPT_CHANNEL = """
const create = RTCPeerConnection.prototype.createDataChannel;
RTCPeerConnection.prototype.createDataChannel = function (...args) {
  return (window.channel = create.apply(this, args));
};
"""


@pytest.fixture(scope="module")
def backend() -> str:
    return "passthrough"


def refuse(page: Page, status: int, code: str, message: str, **headers: str) -> None:
    """The server refuses every call from now on."""

    def answer(route: Route) -> None:
        body = {"error": {"code": code, "message": message}}
        route.fulfill(status=status, json=body, headers=headers)

    page.route("**/v1/sessions?*", answer)


def test_a_lost_session_comes_back_by_itself_and_the_picture_stays(open_page: PageOpener) -> None:
    page = open_page()
    sessions = sessions_of(page)
    start(page)
    page.request.delete(sessions[0])
    expect(page.locator("#state")).to_have_text("Connection lost")
    expect(page.locator("#card")).to_contain_text("Connection lost")
    assert page.evaluate(KEPT_PICTURE) > 40
    page.locator(LIVE).wait_for(state="attached")
    expect(page.locator("#last")).to_be_hidden()
    expect(page.locator("#card")).to_be_hidden()
    assert len(sessions) == 2


def test_a_call_goes_on_after_the_server_was_out_of_reach(
    open_page: PageOpener, server: Server
) -> None:
    page = open_page()
    sessions = sessions_of(page)
    start(page)
    with server.out_of_reach():
        expect(page.locator("#toast")).to_contain_text("Nothing has arrived")
        expect(page.locator("#state")).to_have_text("Connection lost", timeout=15_000)
        expect(page.locator("#last")).to_be_visible()
    expect(page.locator("#toast")).to_have_text("Back again: the call goes on.", timeout=20_000)
    page.evaluate(SHOW_FRAMES, 5)
    assert len(set(sessions)) == 1
    assert server.count_sessions() == 1
    page.locator("#start").click()
    server.wait_until_free()


def test_pauses_grow_and_need_not_be_waited_for(open_page: PageOpener) -> None:
    page = open_page()
    sessions = sessions_of(page)
    start(page)
    tries: list[str] = []
    page.on("request", lambda request: tries.append(request.url))
    page.route("**/v1/sessions?*", lambda route: route.abort())
    page.request.delete(sessions[0])
    for seconds in (1, 2, 4):
        expect(page.locator("#countdown")).to_have_text(f"Trying again in {seconds} s")
        expect(page.locator("#card-title")).to_have_text("Connection lost")
        page.get_by_role("button", name="Try now").click()
    expect(page.locator("#countdown")).to_have_text("Trying again in 8 s")
    assert sum("/v1/sessions?" in url for url in tries) == 3
    page.unroute("**/v1/sessions?*")
    page.evaluate("window.dispatchEvent(new Event('online'))")  # the cable is back
    page.locator(LIVE).wait_for(state="attached")


def test_a_call_that_the_server_ends_begins_again_when_the_server_says(
    open_page: PageOpener,
) -> None:
    page = open_page(script=KEPT_CHANNEL)
    sessions = sessions_of(page)
    start(page)
    ending = {"type": "error", "code": "draining", "message": "", "fatal": True}
    said = json.dumps(ending | {"retry_after_ms": 6_500})
    page.evaluate("(data) => channel.dispatchEvent(new MessageEvent('message', {data}))", said)
    page.request.delete(sessions[0])
    expect(page.locator("#countdown")).to_have_text(re.compile("in [4567] s"))
    page.get_by_role("button", name="Try now").click()
    page.locator(LIVE).wait_for(state="attached")
    assert len(sessions) == 2


def test_a_pause_can_be_cancelled(open_page: PageOpener) -> None:
    page = open_page()
    refuse(page, 503, "server_full", "all places are taken", **{"Retry-After": "7"})
    page.locator("#start").click()
    expect(page.locator("#countdown")).to_have_text(re.compile("in [67] s"))
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#state")).to_have_text("Ready")
    expect(page.locator("#card")).to_be_hidden()


def test_a_visitor_waits_while_the_server_is_full_and_then_gets_in(open_page: PageOpener) -> None:
    first, second = open_page(), open_page()
    start(first)
    second.locator("#start").click()
    expect(second.locator("#card")).to_contain_text("All places are taken")
    expect(second.locator("#state")).to_have_text("Server is full")
    expect(second.locator("#countdown")).to_have_text(COUNTDOWN)
    first.locator("#start").click()
    second.locator(LIVE).wait_for(state="attached")


def test_blocked_udp_is_told_from_a_server_that_does_not_answer(open_page: PageOpener) -> None:
    page = open_page(script=NO_UDP)
    page.locator("#start").click()
    expect(page.locator("#card-title")).to_have_text("Sound and picture cannot get through")
    expect(page.locator("#card-text")).to_contain_text("UDP")
    page.get_by_role("button", name="Cancel").click()


def test_a_browser_without_addresses_says_that_webrtc_is_off(open_page: PageOpener) -> None:
    page = open_page(script=NO_CANDIDATES)
    page.locator("#start").click()
    expect(page.locator("#card-text")).to_contain_text("turn WebRTC off")


def test_a_browser_without_webrtc_is_told_so(open_page: PageOpener) -> None:
    page = open_page(script="delete window.RTCPeerConnection")
    page.locator("#start").click()
    expect(page.locator("#card")).to_contain_text("This browser cannot make calls")
    expect(page.locator("#state")).to_have_text("Ready")


def test_a_starting_engine_is_waited_for(open_page: PageOpener) -> None:
    page = open_page()
    refuse(page, 503, "engine_not_ready", "the engine is being started again")
    page.locator("#start").click()
    expect(page.locator("#card")).to_contain_text("The server is starting")
    page.unroute("**/v1/sessions?*")
    page.locator(LIVE).wait_for(state="attached")


def test_every_reason_to_wait_has_its_title(open_page: PageOpener) -> None:
    titles = open_page().evaluate(
        """
        async (codes) => {
          const {cardFor} = await import("/situations.js");
          return codes.map((code) => cardFor({code, status: 503, message: "x"}).title);
        }
        """,
        ["server_full", "engine_not_ready", "draining", "client_sessions", "client_rate", "other"],
    )
    assert len(set(titles)) == 6 and all(titles)


def test_a_link_with_a_token_opens_the_page_that_asked_for_one(
    open_context: Callable[..., BrowserContext],
) -> None:
    def answer(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer good":
            route.continue_()
        else:
            error = {"code": "no_token", "message": "this server asks for a token"}
            route.fulfill(status=401, json={"error": error})

    page = open_context().new_page()
    page.route("**/v1/avatars", answer)
    page.goto("/")
    expect(page.locator("#card")).to_contain_text("Open this page by the link")
    page.goto("/#token=good")
    expect(page.get_by_role("radio", name="Anna")).to_have_count(1)
    expect(page.locator("#card")).to_be_hidden()
    page.reload()
    expect(page.get_by_role("radio", name="Anna")).to_have_count(1)


@pytest.mark.parametrize(
    ("address", "advice"),
    [("/", "Open this page by the link"), ("/#token=old", "Ask for a new link")],
)
def test_a_missing_and_an_expired_token_are_told_apart(
    open_page: PageOpener, address: str, advice: str
) -> None:
    page = open_page(address)
    refuse(page, 401, "unauthorized", "this server asks for a token")
    with page.expect_request("**/v1/sessions?*") as request:
        page.locator("#start").click()
    expect(page.locator("#card")).to_contain_text("No access")
    expect(page.locator("#card")).to_contain_text(advice)
    expect(page.locator("#state")).to_have_text("Ready")
    sent = request.value.headers.get("authorization")
    assert sent == ("Bearer old" if "#" in address else None)
    assert page.evaluate("location.hash") == ""
