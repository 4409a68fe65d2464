"""What a log line looks like, and what is never in one."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path

import httpx
import pytest

from benchmarks.caller import recorded_call
from server.access.auth import Tokens
from server.api.app import create_app
from server.api.gateway import Gateway
from server.config import Settings
from server.logs import TEXT, JsonFormatter, SessionLog, TextFormatter, configure_logging
from tests.server_fakes import make_avatar

SECRET = "n" * 40


def line_of(
    formatter: logging.Formatter, *, session: str | None = None, error: bool = False
) -> str:
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(formatter.format(record))

    logger = logging.Logger("server.some")
    logger.addHandler(Keep())
    log: logging.Logger | SessionLog = logger if session is None else SessionLog(logger, session)
    try:
        if error:
            raise ValueError("bad\nthing")
        log.warning("begun mode=%s", "live")
    except ValueError:
        log.exception("it broke")
    return lines[0]


def test_a_text_line_names_its_session() -> None:
    assert line_of(TextFormatter(TEXT), session="abc").endswith("session=abc begun mode=live")
    assert "session" not in line_of(TextFormatter(TEXT))


def test_a_json_line_is_one_object_with_its_session_and_error() -> None:
    line = json.loads(line_of(JsonFormatter(), session="abc"))
    assert (line["level"], line["logger"]) == ("warning", "server.some")
    assert (line["message"], line["session"]) == ("begun mode=live", "abc")
    broken = line_of(JsonFormatter(), error=True)
    assert "\n" not in broken and "ValueError" in json.loads(broken)["error"]


def test_a_whole_call_leaves_no_token_password_or_description_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIPWIRE_TOKEN_SECRET", SECRET)
    make_avatar(tmp_path)
    caplog.set_level(logging.DEBUG, logger="server")
    token = Tokens(SECRET.encode()).issue(["call"], 60)
    settings = Settings(
        backend="passthrough",
        avatar_dirs=(tmp_path,),
        auth="on",
        calibrate=False,
        log_level="warning",
        turn_urls=("turn:turn.example:3478",),
        turn_secret="t" * 20,  # type: ignore[arg-type]
    )
    secrets = [SECRET, token, "t" * 20]

    async def main() -> None:
        gateway = Gateway(settings)
        await gateway.start()
        transport = httpx.ASGITransport(create_app(gateway))
        headers = {"authorization": f"Bearer {token}"}
        try:
            async with httpx.AsyncClient(transport=transport, headers=headers) as client:
                told = (await client.get("http://localhost/v1/ice-servers")).json()["ice_servers"]
                ticket = (await client.post("http://localhost/v1/tickets")).json()["ticket"]
                async with recorded_call("http://localhost", avatar="ada", http=client) as caller:
                    await caller.until(lambda received: len(received.video) > 3)
                    bad = "http://localhost/v1/sessions?mode=avatar&avatar=ada"
                    await client.post(bad, content="v=0 bad")
            rtc = caller.call.connection.rtc
            described = rtc.localDescription.sdp + rtc.remoteDescription.sdp
            passwords = re.findall(r"a=ice-(?:ufrag|pwd):(\S+)", described)
            assert len(passwords) >= 4
            prints = re.findall(r"a=fingerprint:\S+ (\S+)", described)
            secrets.extend([*passwords, *prints, ticket, told[0]["credential"]])
            secrets.append(caller.call.location.rsplit("/", 1)[1])
        finally:
            await gateway.stop()

    asyncio.run(main())
    log = "\n".join(TextFormatter(TEXT).format(record) for record in caplog.records)
    assert "begun mode=avatar" in log and "ended reason=deleted" in log
    for secret in secrets:
        assert secret not in log


def test_a_message_is_one_line_whatever_is_in_it() -> None:
    for formatter in (TextFormatter(TEXT), JsonFormatter()):
        record = logging.LogRecord(
            "a", 20, "", 0, "%s", ("x\r\n2026 ERROR \x1b[2Jforged\x85",), None
        )
        line = formatter.format(record)
        assert line.splitlines() == [line] and "\x1b" not in line


def test_libraries_that_log_headers_and_queries_are_quiet() -> None:
    before = logging.getLogger().level, list(logging.getLogger().handlers)
    configure_logging("debug")
    try:
        for name in ("uvicorn.error", "websockets.server", "aiortc.rtcpeerconnection"):
            assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    finally:
        logging.getLogger().setLevel(before[0])
        logging.getLogger().handlers[:] = before[1]
