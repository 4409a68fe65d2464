"""Every error that the server can answer has its row on the page, and none is left over."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.protocol_page import table

SERVER = Path(__file__).resolve().parents[2] / "server"
# What carries a code to a client, and which of its arguments that is.
CARRIERS = {
    "AuthError": 1,
    "BadRequest": 1,
    "ClientLimited": 0,
    "ErrorMessage": 0,
    "OfferRefused": 0,
    "ProtocolError": 0,
    "Refusal": 1,
    "StreamFailed": 1,
    "StreamRefused": 1,
    "UploadRefused": 1,
    "problem": 1,
}


def raised_codes() -> set[str]:
    """Codes in the source of the server, as constants."""
    codes = set()
    for path in SERVER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            at = CARRIERS.get(name)
            if at is not None and len(node.args) > at:
                codes |= {
                    part.value
                    for part in ast.walk(node.args[at])
                    if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
    return codes


def listed_codes() -> list[str]:
    return [row[0].strip("`") for row in table("### Errors")]


def test_the_page_lists_every_error_once_and_no_other() -> None:
    listed = listed_codes()
    assert listed == sorted(set(listed)), "in order, each once"
    assert set(listed) == raised_codes() | {"not_found", "method_not_allowed", "http_error"}


def test_an_error_says_where_it_may_come() -> None:
    for code, http, channel, socket, meaning in table("### Errors"):
        assert re.fullmatch(r"(\d{3}(, \d{3})*)?", http), code
        assert {channel, socket} <= {"", "yes", "fatal"} or re.fullmatch(r"fatal, 1\d{3}", socket)
        assert (http or channel or socket) and meaning, code
