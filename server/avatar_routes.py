"""The HTTP side of avatars that clients bring."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fastapi import FastAPI, Request, Response

from server.avatar_uploads import AvatarUploads, UploadRefused


def add_upload_routes(
    app: FastAPI, uploads: AvatarUploads, max_bytes: int, on_removed: Callable[[str], None]
) -> None:
    """Adds them.

    Args:
        on_removed: told the name of an avatar that is gone.
    """

    @app.post("/v1/avatars", status_code=202)
    async def upload_avatar(request: Request, name: str) -> dict[str, str]:
        """Takes a video or picture as the body; the job that makes an avatar of it."""
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > max_bytes:
            raise UploadRefused(413, "too_large", f"expected at most {max_bytes >> 20} MiB")
        job = await uploads.take(name, request.stream())
        return {"job": job, "name": name, "href": f"/v1/avatars/jobs/{job}"}

    @app.get("/v1/avatars/jobs/{job}")
    async def upload_progress(job: str) -> dict[str, object]:
        """What an upload has come to: `waiting`, `working`, `done` or `failed`."""
        return uploads.describe(job)

    @app.delete("/v1/avatars/{name}", status_code=204)
    async def remove_avatar(name: str) -> Response:
        """Removes an uploaded avatar; calls that show it go on."""
        await asyncio.to_thread(uploads.remove, name)
        on_removed(name)
        return Response(status_code=204)
