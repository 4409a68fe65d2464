"""A server that asks for tokens, as people meet it: by a link, with an old link, by a socket."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from server.access.auth import Scope, Tokens
from tests.browser.page_actions import SHOW_FRAMES, problems_of, start
from tests.browser.real_server import Server

pytestmark = pytest.mark.browser

SECRET = "b" * 40
# Opens a socket by a ticket, twice; what is heard first, and how the second try ends.
OPEN_SOCKET = """
async (token) => {
  const asked = await fetch("/v1/tickets", {
    method: "POST", headers: {authorization: `Bearer ${token}`},
  });
  const {ticket} = await asked.json();
  const url = `ws://${location.host}/v1/media?avatar=anna`;
  const open = () => new Promise((resolve) => {
    const socket = new WebSocket(url, ["lipwire.v1", "lipwire.ticket." + ticket]);
    socket.onopen = () => socket.send(JSON.stringify({type: "session.start"}));
    socket.onmessage = ({data}) => resolve({socket, heard: JSON.parse(data).type});
    socket.onclose = ({code}) => resolve({socket, code});
  });
  const first = await open();
  const second = await open();
  const ended = new Promise((resolve) => { first.socket.onclose = resolve; });
  first.socket.send(JSON.stringify({type: "session.end"}));
  await ended;
  return {protocol: first.socket.protocol, heard: first.heard, second: second.code};
}
"""


@pytest.fixture(scope="module")
def backend() -> str:
    return "passthrough"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"LIPWIRE_AUTH": "on", "LIPWIRE_TOKEN_SECRET": SECRET}


def token(*scopes: Scope, ttl_s: int = 600) -> str:
    return Tokens(SECRET.encode()).issue(scopes, ttl_s)


@pytest.fixture
def page(open_context: Callable[..., BrowserContext]) -> Page:
    return open_context().new_page()


def test_a_link_with_a_token_makes_a_call(page: Page, server: Server) -> None:
    problems = problems_of(page)
    good = token("call")
    page.goto(f"/#token={good}")
    page.locator("#faces").get_by_text("Anna").click()
    start(page)
    page.evaluate(SHOW_FRAMES, 10)
    page.locator("#start").click()
    expect(page.locator("#state")).to_have_text("Ready")
    assert good not in page.url and good not in server.log.read_text()
    assert problems == [], "nothing is kept from the page by its own policy"


@pytest.mark.parametrize(
    ("link", "words"),
    [
        ("/", ["This server asks for a token", "it ends in #token="]),
        ("/#token={expired}", ["The token has expired, get a new one", "Ask for a new link"]),
        ("/#token={foreign}", ["Expected a token of this server", "Ask for a new link"]),
        ("/#token={metrics}", ["Expected a token with the scope call"]),
    ],
)
def test_who_has_no_good_token_is_told_what_to_do(page: Page, link: str, words: list[str]) -> None:
    page.goto(
        link.format(
            expired=token("call", ttl_s=-60),
            foreign=Tokens(b"f" * 40).issue(["call"], 60),
            metrics=token("metrics"),
        )
    )
    for part in words:
        expect(page.locator("#card")).to_contain_text(part)
    expect(page.locator("#faces input")).to_have_count(0)


def test_a_socket_opens_by_a_ticket_once(page: Page) -> None:
    page.goto("/")
    told = page.evaluate(OPEN_SOCKET, token("call"))
    assert told == {"protocol": "lipwire.v1", "heard": "session.ready", "second": 1006}
