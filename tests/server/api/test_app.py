"""The HTTP side, over a real engine process that passes pictures through."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.caller import an_offer
from benchmarks.fuzz_offers import fuzz
from engine.backends.availability import BackendChoice, PassedOver
from server.api.app import create_app
from server.api.gateway import Gateway
from server.config import Settings
from tests.server_fakes import make_avatar

SDP = {"content-type": "application/sdp"}
Scenario = Callable[[httpx.AsyncClient, Gateway], Awaitable[None]]


@pytest.fixture(scope="module")
def avatars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("avatars")
    make_avatar(root)
    (root / "broken").mkdir()
    (root / "broken" / "avatar.json").write_text("{", encoding="utf-8")
    return root


@pytest.fixture
def run(avatars: Path) -> Iterator[Callable[[Scenario], None]]:
    """Runs a scenario against a gateway."""

    def run_scenario(scenario: Scenario) -> None:
        async def main() -> None:
            settings = Settings(
                backend="passthrough",
                avatar_dirs=(avatars,),
                max_sessions=1,
                log_level="warning",
                connect_timeout_s=1.0,
            )
            gateway = Gateway(settings)
            await gateway.start()
            try:
                transport = httpx.ASGITransport(create_app(gateway), raise_app_exceptions=False)
                async with httpx.AsyncClient(
                    transport=transport, base_url="http://localhost"
                ) as client:
                    await scenario(client, gateway)
            finally:
                await gateway.stop()

        asyncio.run(main())

    yield run_scenario


async def _refusal(response: httpx.Response) -> str:
    """The code of an error answer, whose shape is checked."""
    error = response.json()["error"]
    assert set(error) == {"code", "message"} and 10 < len(error["message"]) < 300
    return str(error["code"])


def test_status_avatars_and_metrics_answer(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        assert (await client.get("/readyz")).status_code == 200
        status = (await client.get("/v1/status")).json()
        assert status["engine"]["backend"] == "passthrough"
        assert status["sessions"] == {"active": 0, "max": 1}
        listed = (await client.get("/v1/avatars")).json()["avatars"]
        ada = next(entry for entry in listed if entry["name"] == "ada")
        assert (ada["title"], ada["width"], ada["height"]) == ("Ada", 64, 48)
        assert "broken" not in {entry["name"] for entry in listed}
        poster = await client.get(ada["poster"])
        assert poster.headers["content-type"] == "image/jpeg"
        assert poster.content.startswith(b"\xff\xd8")
        metrics = (await client.get("/metrics")).text
        assert "lipwire_sessions 0.0" in metrics and "lipwire_engine_restarts_total 0.0" in metrics
        assert (await client.get("/openapi.json")).json()["info"]["title"] == "Lipwire"

    run(scenario)


def test_every_bad_request_is_a_4xx_with_a_sentence(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        async def post(query: str, body: bytes | str, headers: dict[str, str]) -> tuple[int, str]:
            response = await client.post(f"/v1/sessions{query}", content=body, headers=headers)
            return response.status_code, await _refusal(response)

        offer = await an_offer()
        ada = "?mode=avatar&avatar=ada"
        json_type = {"content-type": "application/json"}
        large = "v=0\r\n" + "a=x\r\n" * 20_000
        assert await post(ada, offer, json_type) == (415, "content_type")
        assert await post(ada, offer, {}) == (415, "content_type")
        html = SDP | {"accept": "text/html, image/*;q=0.5"}
        assert await post(ada, offer, html) == (406, "not_acceptable")
        anything = SDP | {"accept": "text/html, */*;q=0.1"}
        assert await post(ada, "", anything) == (400, "empty")
        assert await post(ada, "", SDP) == (400, "empty")
        assert await post(ada, "{}", SDP) == (400, "bad_sdp")
        assert await post(ada, b"\xff\xfe", SDP) == (400, "bad_sdp")
        assert await post(ada, large, SDP) == (413, "too_large")
        assert await post("?mode=opera", offer, SDP) == (422, "bad_mode")
        assert await post("?mode=avatar", offer, SDP) == (422, "no_avatar")
        assert await post("?mode=avatar&avatar=eve", offer, SDP) == (404, "unknown_avatar")
        assert await post("?mode=avatar&avatar=../..", offer, SDP) == (404, "unknown_avatar")
        assert await post("?mode=live", offer, SDP) == (422, "direction")
        for method, path, status, code in [
            ("GET", "/v1/sessions", 405, "method_not_allowed"),
            ("PUT", "/v1/sessions", 405, "method_not_allowed"),
            ("PATCH", "/v1/sessions/none", 415, "content_type"),
            ("DELETE", "/v1/sessions/none", 404, "unknown_session"),
            ("GET", "/v1/avatars/eve/poster.jpg", 404, "unknown_avatar"),
            ("GET", "/v1/avatars/..%2f..%2fetc/poster.jpg", 404, "not_found"),
            ("GET", "/no/such/page", 404, "not_found"),
        ]:
            response = await client.request(method, path)
            assert (response.status_code, await _refusal(response)) == (status, code), path
        assert gateway.sessions.count == 0

    run(scenario)


async def _too_much() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"a=x\r\n" * 1000


def test_a_body_without_a_length_is_cut_off_at_the_limit(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        response = await client.post(
            "/v1/sessions?mode=avatar&avatar=ada", content=_too_much(), headers=SDP
        )
        assert (response.status_code, await _refusal(response)) == (413, "too_large")

    run(scenario)


def test_a_full_server_says_when_to_come_back_and_a_delete_makes_room(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        query = "/v1/sessions?mode=avatar&avatar=ada"
        offer = await an_offer()
        first = await client.post(query, content=offer, headers=SDP)
        assert first.status_code == 201
        assert first.headers["content-type"] == "application/sdp"
        assert first.text.startswith("v=0")
        second = await client.post(query, content=offer, headers=SDP)
        assert (second.status_code, await _refusal(second)) == (503, "server_full")
        assert int(second.headers["retry-after"]) > 0
        assert (await client.delete(first.headers["location"])).status_code == 204
        assert (await client.delete(first.headers["location"])).status_code == 404
        third = await client.post(query, content=offer, headers=SDP)
        assert third.status_code == 201

    run(scenario)


def test_one_client_cannot_take_all_places_and_is_told_when_to_ask_again(avatars: Path) -> None:
    async def main() -> None:
        settings = Settings(
            backend="passthrough",
            avatar_dirs=(avatars,),
            log_level="warning",
            max_sessions=3,
            client_sessions=1,
            client_offers_per_minute=3,
        )
        gateway = Gateway(settings)
        await gateway.start()
        query = "/v1/sessions?mode=avatar&avatar=ada"
        offers = [await an_offer() for _ in range(2)]
        try:
            clients = [
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(create_app(gateway), client=(address, 1)),
                    base_url="http://localhost",
                )
                for address in ("192.0.2.1", "192.0.2.2")
            ]
            answers = [await clients[0].post(query, content=offers[0], headers=SDP)]
            for _ in range(3):
                answers.append(await clients[0].post(query, content=offers[0], headers=SDP))
            assert [answer.status_code for answer in answers] == [201, 429, 429, 429]
            codes = [await _refusal(answer) for answer in answers[1:]]
            assert codes == ["client_sessions", "client_sessions", "client_rate"]
            assert int(answers[1].headers["retry-after"]) == settings.retry_after_s
            assert 0 < int(answers[3].headers["retry-after"]) <= 60
            other = await clients[1].post(query, content=offers[1], headers=SDP)
            assert other.status_code == 201
            metrics = (await clients[1].get("/metrics")).text
            assert 'lipwire_offers_refused_total{code="client_sessions"} 2.0' in metrics
        finally:
            await gateway.stop()

    asyncio.run(main())


def test_a_calibrated_server_says_how_many_calls_it_holds_and_why(avatars: Path) -> None:
    async def main() -> None:
        gateway = Gateway(
            Settings(
                backend="passthrough", avatar_dirs=(avatars,), log_level="warning", calibrate=True
            )
        )
        await gateway.start()
        try:
            transport = httpx.ASGITransport(create_app(gateway))
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                sessions = (await client.get("/v1/status")).json()["sessions"]
        finally:
            await gateway.stop()
        assert sessions["active"] == 0 and sessions["max"] >= 1
        assert sessions["capacity"]["engine"] is None, "nothing is computed"
        assert sessions["max"] <= sessions["capacity"]["gateways"] + 1
        assert "this machine holds" in sessions["why"]

    asyncio.run(main())


def test_a_peer_that_never_connects_is_given_up(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        response = await client.post(
            "/v1/sessions?mode=avatar&avatar=ada", content=await an_offer(), headers=SDP
        )
        assert response.status_code == 201
        async with asyncio.timeout(10):
            while gateway.sessions.count:
                await asyncio.sleep(0.02)
        metrics = (await client.get("/metrics")).text
        assert (
            'lipwire_sessions_ended_total{reason="never_connected",transport="webrtc"} 1.0'
            in metrics
        )

    run(scenario)


def test_mutated_offers_are_refused_and_leak_nothing(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        outcome = await fuzz(client, gateway, "mode=avatar&avatar=ada", 90, seed=11)
        assert outcome.server_errors == 0 and outcome.calls_left == 0
        assert len(outcome.statuses) > 1 and "201" in outcome.statuses
        assert outcome.descriptors[-1] <= outcome.descriptors[0] + 2

    run(scenario)


def test_probes_are_told_what_runs_and_why_without_what_libraries_said(
    run: Callable[[Scenario], None],
) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        assert gateway.host.ready is not None
        said = "cannot open /home/alice/models/unet.onnx"
        passed = (PassedOver("openvino", "failed", said, "reinstall it"),)
        gateway.host.ready = dataclasses.replace(
            gateway.host.ready,
            backend="onnxruntime-f32",
            choice=BackendChoice("onnxruntime", asked=False, passed=passed),
        )
        assert (await client.get("/readyz")).json() == {
            "status": "ready",
            "backend": "onnxruntime-f32",
            "backend_reason": "openvino does not work (failed)",
            "backend_reason_code": "broken",
        }
        engine = (await client.get("/v1/status")).json()["engine"]
        assert said in engine["backend_reason"] and engine["backend_reason_code"] == "broken"

    run(scenario)


def test_no_engine_means_503_with_retry_after(run: Callable[[Scenario], None]) -> None:
    async def scenario(client: httpx.AsyncClient, gateway: Gateway) -> None:
        gateway.host.state = "restarting"
        response = await client.post(
            "/v1/sessions?mode=avatar&avatar=ada",
            content=await an_offer(),
            headers=SDP,
        )
        assert (response.status_code, await _refusal(response)) == (503, "engine_not_ready")
        assert int(response.headers["retry-after"]) > 0
        assert (await client.get("/readyz")).status_code == 503
        gateway.host.state = "ready"

    run(scenario)
