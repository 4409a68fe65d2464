"""What a person sees while files come."""

from __future__ import annotations

import io

import pytest

from server.commands.hub import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("seen", [True, False])
def test_bars_are_drawn_on_terminals_only(seen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal() if seen else io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with Progress().bar("verifying unet", 2_000_000, 500_000) as bar:
        bar.update(1_500_000)
    text = stream.getvalue()
    assert ("verifying unet" in text and "2.0/2.0" in text) if seen else text == ""


def test_what_the_hubs_client_takes_for_tqdm_draws_our_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    tqdm = Progress().as_tqdm()
    with tqdm(desc="unet", total=1000, initial=400, unit="B", unit_scale=True, name="x") as bar:
        bar.update(600)
    assert "unet" in stream.getvalue() and "1.0/1.0 kB" in stream.getvalue()


def test_quiet_is_quiet_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    progress = Progress(quiet=True)
    progress.say("something")
    with progress.bar("unet", 10) as bar:
        bar.update(10)
    assert stream.getvalue() == ""
