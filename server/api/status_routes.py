"""The HTTP side of what runs here and how busy it is: status, health, metrics."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Response

from server.api import openapi
from server.api.gateway import Gateway
from server.release import server_version


def add_status_routes(app: FastAPI, gateway: Gateway) -> None:
    """Adds them."""

    @app.get("/v1/status")
    async def status() -> dict[str, Any]:
        """What runs here and how busy it is."""
        host, ready = gateway.host, gateway.host.ready
        engine: dict[str, Any] = {"state": host.state, "restarts": host.restarts}
        if ready is not None:
            engine |= {
                "model": ready.model,
                "backend": ready.backend,
                "resolution": ready.resolution,
                "hop_frames": ready.hop_frames,
                "hop_ms": round(ready.hop_ms, 1),
                "busy": round(host.busy, 3),
            }
            if ready.choice is not None:
                engine["backend_reason"] = ready.backend_reason
                engine["backend_reason_code"] = ready.choice.reason
                engine["backends_passed_over"] = [asdict(item) for item in ready.choice.passed]
        places = gateway.places
        sessions: dict[str, Any] = {"active": places.taken, "max": places.limit}
        if places.capacity is not None:
            sessions["capacity"] = places.capacity.describe()
            sessions["why"] = places.capacity.explain()
        if places.gateways:
            sessions["gateways"] = [
                {"up": state.up, "active": state.sessions, "restarts": state.restarts}
                for state in places.gateways
            ]
        return {"version": server_version(), "engine": engine, "sessions": sessions}

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The gateway answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses=openapi.NOT_READY)
    async def readyz(response: Response) -> dict[str, str]:
        """Calls can be taken; what runs the network, and why."""
        host = gateway.host
        state = "draining" if gateway.sessions.draining else host.state
        if state != "ready":
            response.status_code = 503
            return {"status": state}
        if host.ready is None or host.ready.choice is None:
            return {"status": state}
        choice = host.ready.choice
        return {
            "status": state,
            "backend": host.ready.backend,
            "backend_reason": choice.summary,
            "backend_reason_code": choice.reason,
        }

    @app.get("/metrics", response_class=Response, responses=openapi.METRICS)
    async def metrics() -> Response:
        """For Prometheus."""
        page = await gateway.metrics_page()
        return Response(page, media_type="text/plain; version=0.0.4; charset=utf-8")
