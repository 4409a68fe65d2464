"""Own faces on the page: added with progress, refused in the server's words, removed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cv2
import numpy as np
import pytest
from playwright.sync_api import FilePayload, Locator, Page, Route, expect

from tests.browser.page_actions import PageOpener, start

pytestmark = pytest.mark.browser

PICTURE: FilePayload = {
    "name": "Zoë at home.png",
    "mimeType": "image/png",
    "buffer": cv2.imencode(".png", np.full((64, 64, 3), 128, np.uint8))[1].tobytes(),
}


@pytest.fixture(scope="module")
def backend() -> str:
    return "passthrough"


@pytest.fixture(scope="module")
def settings(scratch: Path) -> dict[str, str]:
    return {"LIPWIRE_MAX_UPLOAD_MB": "8", "LIPWIRE_UPLOADS_DIR": str(scratch / "uploads")}


@dataclass
class AvatarStand:
    """The server's part in adding and removing avatars, between the page and the real one.

    Attributes:
        steps: what the job answers, one after another; the last one again and again.
        refusal: status and message of the upload's refusal, if any.
        uploads: bytes received, by name.
    """

    steps: list[dict[str, Any]] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    uploads: dict[str, bytes] = field(default_factory=dict)

    def stand_before(self, page: Page) -> None:
        page.route("**/v1/avatars**", self._answer)
        page.route("**/v1/avatars/**", self._answer)
        page.reload()
        page.locator("#add-face").wait_for(state="attached")

    def _answer(self, route: Route) -> None:
        request = route.request
        address = urlsplit(request.url)
        match request.method, address.path.split("/")[3:]:
            case "GET", []:
                self._list(route)
            case "POST", []:
                self._take(route, parse_qs(address.query)["name"][0])
            case "GET", ["jobs", "job-1"]:
                route.fulfill(json=self.steps[0] if len(self.steps) == 1 else self.steps.pop(0))
            case "GET", [_, "poster.jpg"]:
                route.fulfill(body=PICTURE["buffer"], content_type="image/png")
            case "DELETE", [name]:
                self.uploads.pop(name)
                route.fulfill(status=204)
            case other:
                raise AssertionError(f"unexpected {other}")

    def _list(self, route: Route) -> None:
        body = route.fetch().json()
        body["avatars"] += [{"name": name, "title": name, "own": True} for name in self.uploads]
        route.fulfill(json=body | {"uploads": True})

    def _take(self, route: Route, name: str) -> None:
        if self.refusal is not None:
            status, message = self.refusal
            route.fulfill(status=status, json={"error": {"code": "refused", "message": message}})
            return
        self.uploads[name] = route.request.post_data_buffer or b""
        route.fulfill(status=202, json={"job": "job-1"})


def choose_file(page: Page) -> None:
    page.locator("#add-face").set_input_files(PICTURE)
    expect(page.get_by_role("dialog", name="Add a face")).to_be_visible()


def test_without_uploads_there_is_no_place_for_them(open_page: PageOpener) -> None:
    page = open_page()
    page.route(
        "**/v1/avatars",
        lambda route: route.fulfill(json=route.fetch().json() | {"uploads": False}),
    )
    page.reload()
    page.locator("#faces input").first.wait_for(state="attached")
    expect(page.locator("#add-face")).to_have_count(0)


def test_a_picture_becomes_a_face_that_speaks_and_goes_again(open_page: PageOpener) -> None:
    page = open_page()
    poster = page.request.get("/v1/avatars/anna/poster.jpg").body()
    page.locator("#add-face").set_input_files(
        {"name": "eve.jpg", "mimeType": "image/jpeg", "buffer": poster}
    )
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("radio", name="eve")).to_be_checked(timeout=60_000)
    start(page)
    page.locator("#start").click()
    page.get_by_role("button", name="Remove eve").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.get_by_role("radio", name="eve")).to_have_count(0)


def test_a_picture_without_a_face_is_refused_by_the_server(open_page: PageOpener) -> None:
    page = open_page()
    choose_file(page)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#upload-error")).to_contain_text("face", timeout=60_000)


def test_an_added_face_shows_its_progress_and_is_chosen(open_page: PageOpener) -> None:
    stand = AvatarStand(
        steps=[
            {"state": "running", "percent": 30, "message": "looking for a face"},
            {"state": "running", "percent": 70, "message": "preparing the clip"},
            {"state": "done", "percent": 100, "message": ""},
        ]
    )
    page = open_page()
    stand.stand_before(page)
    choose_file(page)
    expect(page.get_by_label("Name", exact=True)).to_have_value("zoe-at-home")
    page.get_by_label("Name", exact=True).fill("zoe")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#upload-words")).to_have_text("Looking for a face.")
    assert page.locator("#upload-bar").get_attribute("value") == "30"
    expect(page.locator("#upload-words")).to_have_text("Preparing the clip.")
    expect(page.get_by_role("dialog", name="Add a face")).to_be_hidden()
    expect(page.get_by_role("radio", name="zoe")).to_be_checked()
    assert stand.uploads == {"zoe": PICTURE["buffer"]}


@pytest.mark.parametrize("late", [False, True])
def test_a_refusal_is_shown_in_the_servers_words(open_page: PageOpener, late: bool) -> None:
    words = "expected one face, found three"
    stand = AvatarStand(
        steps=[{"state": "failed", "percent": 10, "message": words}],
        refusal=None if late else (422, words),
    )
    page = open_page()
    stand.stand_before(page)
    choose_file(page)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("#upload-error")).to_have_text("Expected one face, found three.")
    expect(page.get_by_role("button", name="Add", exact=True)).to_be_enabled()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Add a face")).to_be_hidden()
    choose_file(page)
    expect(page.locator("#upload-error")).to_be_hidden()


def test_a_name_that_the_server_would_refuse_is_not_sent(open_page: PageOpener) -> None:
    stand = AvatarStand()
    page = open_page()
    stand.stand_before(page)
    choose_file(page)
    page.get_by_label("Name", exact=True).fill("no spaces")
    page.get_by_role("button", name="Add", exact=True).click()
    assert page.locator("#upload-name").evaluate("(name) => name.validity.patternMismatch")
    assert stand.uploads == {}


def test_a_file_that_is_too_large_is_refused_before_it_is_sent(open_page: PageOpener) -> None:
    page = open_page()
    posts: list[str] = []
    page.on("request", lambda request: posts.append(request.method))
    large: FilePayload = {"name": "long.mp4", "mimeType": "video/mp4", "buffer": bytes(9 << 20)}
    page.locator("#add-face").set_input_files(large)
    expect(page.locator("#upload-error")).to_contain_text("9 MiB; the server takes at most 8 MiB")
    expect(page.locator("#upload-go")).to_be_disabled()
    assert "POST" not in posts


def test_a_long_title_leaves_every_tile_as_wide_as_the_others(open_page: PageOpener) -> None:
    page = open_page(size=(390, 844))
    AvatarStand(uploads={"own-" + 56 * "x": b"", "own": b""}).stand_before(page)
    pictures = page.locator("#faces .face-picture").all()
    widths = {round(box["width"]) for box in map(Locator.bounding_box, pictures) if box}
    assert max(widths) - min(widths) <= 1
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_an_own_face_is_removed_after_a_question(open_page: PageOpener) -> None:
    stand = AvatarStand(uploads={"zoe": b""})
    page = open_page()
    stand.stand_before(page)
    page.get_by_role("radio", name="zoe").check(force=True)
    page.get_by_role("button", name="Remove zoe").click()
    page.get_by_role("button", name="Keep").click()
    assert stand.uploads == {"zoe": b""}
    page.get_by_role("button", name="Remove zoe").click()
    page.get_by_role("button", name="Remove", exact=True).click()
    expect(page.get_by_role("radio", name="zoe")).to_have_count(0)
    expect(page.get_by_role("radio", name="Amara")).to_be_checked()
    assert stand.uploads == {}
    expect(page.get_by_role("button", name="Remove")).to_have_count(0)
