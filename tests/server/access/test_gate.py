"""The gate before an application that answers whoever gets through."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse

from server.access.auth import Tokens
from server.access.gate import TICKET_PROTOCOL, add_access, add_ticket_route

TOKENS = Tokens(b"s" * 32)
ELSEWHERE = "https://app.example"


def client(
    tokens: Tokens | None = TOKENS,
    host: str = "lips.example",
    on_denied: Callable[[str], None] = lambda code: None,
) -> TestClient:
    app = FastAPI()
    add_ticket_route(app, tokens)

    @app.websocket("/v1/stream")
    async def stream(socket: WebSocket) -> None:
        await socket.accept("lipwire.v1")
        await socket.send_text(socket.state.grant.subject)

    @app.api_route("/{path:path}", methods=["GET", "POST", "DELETE"], include_in_schema=False)
    async def anything(path: str) -> str:
        return path

    add_access(app, tokens, (ELSEWHERE,), on_denied)
    return TestClient(app, base_url=f"http://{host}")


def bearer(*scopes: str, ttl_s: int = 60) -> dict[str, str]:
    token = TOKENS.issue(scopes, ttl_s, "alice")  # type: ignore[arg-type]
    return {"authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/sessions", "call"),
        ("DELETE", "/v1/sessions/abc", "call"),
        ("GET", "/v1/avatars", "call"),
        ("GET", "/v1/status", "call"),
        ("POST", "/v1/tickets", "call"),
        ("POST", "/v1/avatars", "avatars:write"),
        ("GET", "/v1/avatars/jobs/abc", "avatars:write"),
        ("DELETE", "/v1/avatars/ada", "avatars:write"),
        ("POST", "/v1/whip/stage", "call"),
        ("POST", "/v1/whep/stage", "watch"),
        ("DELETE", "/v1/whep/stage/abc", "watch"),
        ("GET", "/metrics", "metrics"),
    ],
)
def test_each_request_needs_its_scope(method: str, path: str, scope: str) -> None:
    http = client()
    refused = http.request(method, path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "no_token")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    others = {"call", "watch", "avatars:write", "metrics"} - {scope}
    others -= {"call"} if scope == "watch" else set()  # who may call may watch
    forbidden = http.request(method, path, headers=bearer(*others))
    assert (forbidden.status_code, forbidden.json()["error"]["code"]) == (403, "scope")
    expired = http.request(method, path, headers=bearer(scope, ttl_s=-60))
    assert (expired.status_code, expired.json()["error"]["code"]) == (401, "token_expired")
    assert http.request(method, path, headers=bearer(scope)).is_success


@pytest.mark.parametrize("path", ["/", "/app.js", "/healthz", "/readyz", "/openapi.json"])
def test_the_page_and_the_signs_of_life_need_no_token(path: str) -> None:
    assert client().get(path).status_code == 200


def test_who_is_turned_away_is_told_of_by_code() -> None:
    codes: list[str] = []
    http = client(on_denied=codes.append)
    http.get("/v1/status")
    http.get("/v1/status", headers={"authorization": "Bearer nonsense"})
    http.get("/metrics", headers=bearer("call"))
    http.post("/v1/sessions", headers={"origin": "https://evil.example"})
    http.get("/healthz")
    assert codes == ["no_token", "bad_token", "scope", "origin"]


def test_a_token_in_the_query_counts_for_nothing() -> None:
    token = bearer("call")["authorization"].split()[1]
    assert client().get("/v1/status", params={"token": token}).status_code == 401


def test_a_posters_link_needs_its_key_and_opens_nothing_else() -> None:
    http, key = client(), TOKENS.poster_key("ada")
    assert http.get(f"/v1/avatars/ada/poster.jpg?key={key}").status_code == 200
    assert http.get("/v1/avatars/ada/poster.jpg").status_code == 401
    assert http.get(f"/v1/avatars/eve/poster.jpg?key={key}").status_code == 401
    assert http.get(f"/v1/avatars?key={key}").status_code == 401


@pytest.mark.parametrize("tokens", [TOKENS, None])
def test_a_strangers_page_can_change_nothing(tokens: Tokens | None) -> None:
    http = client(tokens, "localhost:8080")
    for origin, status in [("https://evil.example", 403), ("http://localhost:8080", 200)]:
        headers = bearer("call") | {"origin": origin}
        assert http.post("/v1/sessions", headers=headers).status_code == status


def test_a_listed_page_may_ask_from_elsewhere_and_read_the_answer() -> None:
    http = client()
    asked = {"origin": ELSEWHERE, "access-control-request-method": "POST"}
    wanted = {"access-control-request-headers": "authorization,content-type"}
    before = http.options("/v1/sessions", headers=asked | wanted)
    assert before.status_code == 200
    assert before.headers["access-control-allow-origin"] == ELSEWHERE
    asked["access-control-request-method"] = "OPTIONS"  # a WHIP client asks what may be sent
    assert http.options("/v1/whip/stage", headers=asked).status_code == 200
    answer = http.post("/v1/sessions", headers=bearer("call") | {"origin": ELSEWHERE})
    assert answer.status_code == 200
    assert "location" in answer.headers["access-control-expose-headers"].lower()
    refused = http.post("/v1/sessions", headers={"origin": ELSEWHERE})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == ELSEWHERE


def test_a_socket_opens_with_a_ticket_once() -> None:
    http = client()
    ticket = http.post("/v1/tickets", headers=bearer("call")).json()["ticket"]
    offered = ["lipwire.v1", TICKET_PROTOCOL + ticket]
    with http.websocket_connect("/v1/stream", subprotocols=offered) as socket:
        assert socket.accepted_subprotocol == "lipwire.v1"
        assert socket.receive_text() == "alice"
    with (
        pytest.raises(WebSocketDenialResponse) as caught,
        http.websocket_connect("/v1/stream", subprotocols=offered),
    ):
        pass
    assert caught.value.status_code == 401
    assert caught.value.json()["error"]["code"] == "ticket_taken"


@pytest.mark.parametrize("origin", [None, "https://evil.example"])
def test_a_socket_without_ticket_or_from_a_strangers_page_stays_shut(origin: str | None) -> None:
    headers = {} if origin is None else bearer("call") | {"origin": origin}
    with (
        pytest.raises(WebSocketDenialResponse),
        client().websocket_connect("/v1/stream", headers=headers),
    ):
        pass


def test_a_program_opens_a_socket_with_its_token() -> None:
    with client().websocket_connect("/v1/stream", headers=bearer("call")) as socket:
        assert socket.receive_text() == "alice"


def test_without_tokens_everybody_may_do_everything() -> None:
    http = client(None, "localhost:8080")
    assert http.delete("/v1/avatars/ada").status_code == 200
    assert http.post("/v1/tickets").json() == {"ticket": "", "expires_in": 30}
    with http.websocket_connect("ws://localhost:8080/v1/stream") as socket:
        assert socket.receive_text() == ""


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("app.example", 200),  # of an origin that is listed
        ("evil.example:8080", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("[::1", 403),
    ],
)
def test_without_tokens_the_server_answers_under_this_machines_own_name_only(
    host: str, status: int
) -> None:
    http = client(None, "localhost:8080")
    for method, path in [("GET", "/v1/avatars"), ("GET", "/v1/status"), ("GET", "/metrics")]:
        answer = http.request(method, path, headers={"host": host})
        assert answer.status_code == status, (host, path)
    assert http.get("/healthz", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/v1/status", "/metrics", "/nothing"])
def test_every_answer_tells_browsers_what_they_may_do_with_it(path: str) -> None:
    headers = client().get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "cross-origin"  # an origin is listed
    assert headers["referrer-policy"] == "no-referrer"
