"""The live figures of the page: the strip, the last minute's latency, the report."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Route, expect

from tests.browser.page_actions import NO_FIGURE, PageOpener, sessions_of, start

pytestmark = pytest.mark.browser

PARTS = ("capture", "network", "server", "display")
# Draws a minute that is known into the page's own plot.
DRAW = """
async () => {
  const {LatencyPlot, Minute} = await import("/latency_plot.js");
  const both = (ms) => ({p50: ms, p95: ms});
  const minute = new Minute();
  for (let i = 0; i < 100; i += 1) {
    const known = i !== 50;
    minute.push({
      fps: 25,
      total: known ? {p50: 100 + i, p95: 120 + i} : both(null),
      parts: {capture: both(30), network: both(2), server: both(58 + i), display: both(10)},
    });
  }
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const top = new LatencyPlot(svg).draw(minute);
  const line = svg.querySelector(".line:not(.p95)").getAttribute("d");
  return {top, line, total: minute.total, summary: minute.summary, count: minute.seconds.length};
}
"""


@pytest.fixture(scope="module")
def backend() -> str:
    return "passthrough"


def test_the_strip_shows_live_figures_and_clears_them(open_page: PageOpener) -> None:
    page = open_page()
    sessions = sessions_of(page)
    start(page)
    for figure in ("latency", "server-p50", "fps", "late", "playout"):
        expect(page.locator(f"#{figure}")).not_to_have_text(NO_FIGURE)
    assert 50 < int(page.locator("#latency").inner_text()) < 3000
    page.route("**/v1/sessions?*", lambda route: route.abort())
    page.request.delete(sessions[0])
    expect(page.locator("#latency")).to_have_text(NO_FIGURE)


def test_the_latency_panel_adds_up(open_page: PageOpener) -> None:
    page = open_page()
    start(page)
    page.keyboard.press("l")
    expect(page.locator("#latency-panel")).to_be_visible()
    expect(page.locator("#latency-button")).to_have_attribute("aria-expanded", "true")
    expect(page.locator("#latency-summary")).to_contain_text("Median")
    rows = page.locator("#parts li b")
    expect(rows).to_have_count(len(PARTS))
    expect(rows.last).not_to_have_text(NO_FIGURE)
    assert page.locator("#plot .area").evaluate_all(
        "(areas) => areas.every((area) => area.getAttribute('d').startsWith('M'))"
    )
    page.keyboard.press("Escape")
    expect(page.locator("#latency-panel")).to_be_hidden()
    expect(page.locator("#state")).to_have_text("Live")


def test_a_known_minute_is_drawn_to_scale(open_page: PageOpener) -> None:
    drawn = open_page().evaluate(DRAW)
    assert drawn["count"] == 60
    assert drawn["top"] == 250
    # The last 60 seconds are 140 to 199 ms, one of them unknown: 170 in the middle.
    assert drawn["total"]["p50"] == pytest.approx(170, abs=1)
    assert drawn["total"]["p95"] == pytest.approx(217, abs=1)
    assert drawn["summary"] == "Median 170 ms, 95 of 100 under 217 ms, over the last 60 s."
    assert drawn["line"].count("M") == 2, "a gap where nothing is known"
    x, y = drawn["line"].split("L")[-1].split()
    assert float(x) == 120 and float(y) == pytest.approx(32 * (1 - 199 / 250), abs=0.01)


def test_the_copied_figures_tell_much_and_no_secrets(open_page: PageOpener) -> None:
    page = open_page()
    page.context.grant_permissions(["microphone", "camera", "clipboard-read", "clipboard-write"])
    sessions = sessions_of(page)
    start(page)
    expect(page.locator("#latency")).not_to_have_text(NO_FIGURE)
    page.keyboard.press("l")
    page.get_by_role("button", name="Copy figures").click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    text = page.evaluate("navigator.clipboard.readText()")
    report = json.loads(text)
    assert report["status"]["engine"]["backend"] == "passthrough"
    assert report["session"]["mode"] == "avatar"
    assert set(report["last_minute"]["seconds"][-1]["parts"]) == set(PARTS)
    assert report["server"]["fps"] >= 0
    assert sessions[0].rsplit("/", 1)[-1] not in text, "the right to end the call"
    assert "deviceId" not in text and "resume_token" not in text


def test_without_a_clipboard_the_figures_become_a_file(open_page: PageOpener) -> None:
    page = open_page(script="Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.locator("#latency-button").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Copy figures").click()
    assert download.value.suggested_filename == "lipwire-figures.json"
    assert json.loads(download.value.path().read_text())["page"]["state"] == "idle"


def test_what_runs_on_the_server_and_why_is_said_below(open_page: PageOpener) -> None:
    def give_a_reason(route: Route) -> None:
        status = route.fetch().json()
        status["engine"]["backend_reason"] = "it was asked for"
        route.fulfill(json=status)

    page = open_page()
    expect(page.locator("#about-server")).to_contain_text("passthrough")
    page.route("**/v1/status", give_a_reason)
    page.reload()
    expect(page.locator("#about-server")).to_contain_text("passthrough, because it was asked for")


def test_a_better_backend_that_is_broken_is_a_warning(open_page: PageOpener) -> None:
    def break_one(route: Route) -> None:
        status = route.fetch().json()
        why = "openvino does not work: libtbb.so.12 is missing"
        status["engine"] |= {"backend_reason": why, "backend_reason_code": "broken"}
        route.fulfill(json=status)

    page = open_page()
    about = page.locator("#about-server")
    expect(about).to_contain_text("passthrough")
    assert "warning" not in (about.get_attribute("class") or "")
    page.route("**/v1/status", break_one)
    page.reload()
    expect(about).to_contain_text("because openvino does not work: libtbb.so.12 is missing")
    expect(about).to_have_class("warning")
    before = about.evaluate("element => getComputedStyle(element, '::before').content")
    assert before != "none", "nobody sees a colour alone"


def test_the_page_sees_that_a_plan_is_built_and_another_backend_takes_over(
    open_page: PageOpener,
) -> None:
    answers = [
        {
            "backend": "onnxruntime-f32",
            "backend_reason": "the plan for tensorrt is being built, which takes over then",
            "backends_passed_over": [{"name": "tensorrt", "reason": "building"}],
        },
        {"backend": "tensorrt-f16", "backend_reason": "it is the best"},
    ]
    asked = 0

    def answer(route: Route) -> None:
        nonlocal asked
        status = route.fetch().json()
        status["engine"] |= answers[min(asked, 1)]
        asked += 1
        route.fulfill(json=status)

    page = open_page(script="const own = setTimeout; setTimeout = (f, ms) => own(f, ms / 20);")
    page.route("**/v1/status", answer)
    page.reload()
    about = page.locator("#about-server")
    expect(about).to_contain_text("tensorrt-f16, because it is the best")
    assert asked == 2  # and no further look once nothing is being built
