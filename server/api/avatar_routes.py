"""The HTTP side of avatars: which there are, and those that clients bring."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response

from server.access.auth import Grant, Tokens
from server.api import openapi
from server.api.gateway import Gateway
from server.avatars.library import AvatarInfo
from server.avatars.upload_jobs import UploadRefused
from server.avatars.uploads import AvatarUploads


def add_avatar_routes(app: FastAPI, gateway: Gateway) -> None:
    """Adds them."""

    @app.get("/v1/avatars")
    async def list_avatars(request: Request) -> dict[str, Any]:
        """The avatars that a call may name."""
        avatars = await asyncio.to_thread(gateway.library.infos)
        own = gateway.uploads.is_own
        described = [_describe(info, gateway.tokens) | {"own": own(info.name)} for info in avatars]
        grant: Grant = request.state.grant
        limit_mb = gateway.settings.max_upload_mb
        uploads = limit_mb > 0 and grant.allows("avatars:write")
        return {"avatars": described, "uploads": uploads, "max_upload_mb": limit_mb}

    @app.get("/v1/avatars/{name}/poster.jpg", response_class=Response, responses=openapi.POSTER)
    async def avatar_poster(name: str) -> Response:
        """The first picture of an avatar's clip."""
        data = await gateway.poster(name)
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})


def add_upload_routes(
    app: FastAPI, uploads: AvatarUploads, max_bytes: int, on_removed: Callable[[str], None]
) -> None:
    """Adds them.

    Args:
        on_removed: told the name of an avatar that is gone.
    """

    @app.post(
        "/v1/avatars",
        status_code=202,
        responses=openapi.UPLOADED,
        openapi_extra=openapi.UPLOAD_BODY,
    )
    async def upload_avatar(request: Request, name: str) -> dict[str, str]:
        """Takes a video or picture as the body; the job that makes an avatar of it."""
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > max_bytes:
            raise UploadRefused(413, "too_large", f"expected at most {max_bytes >> 20} MiB")
        job = await uploads.take(name, request.stream())
        return {"job": job, "name": name, "href": f"/v1/avatars/jobs/{job}"}

    @app.get("/v1/avatars/jobs/{job}", responses=openapi.errors(404))
    async def upload_progress(job: str) -> dict[str, object]:
        """What an upload has come to: `waiting`, `working`, `done` or `failed`."""
        return uploads.describe(job)

    @app.delete("/v1/avatars/{name}", status_code=204, responses=openapi.errors(404))
    async def remove_avatar(name: str) -> Response:
        """Removes an uploaded avatar, or one that is being made; calls that show it go on."""
        await uploads.remove(name)
        on_removed(name)
        return Response(status_code=204)


def _describe(info: AvatarInfo, tokens: Tokens | None) -> dict[str, Any]:
    key = "" if tokens is None else f"?key={tokens.poster_key(info.name)}"
    return {
        "name": info.name,
        "title": info.title,
        "width": info.width,
        "height": info.height,
        "licence": info.licence,
        "poster": f"/v1/avatars/{info.name}/poster.jpg{key}",
    }
