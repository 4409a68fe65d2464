"""Avatars that clients bring: good ones, and what a stranger may send instead."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import struct
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from engine.avatar import load_avatar
from engine.errors import AvatarError, LipwireError
from server.api.avatar_routes import add_upload_routes
from server.avatars import building
from server.avatars.library import AvatarLibrary
from server.avatars.upload_jobs import UploadRefused
from server.avatars.uploads import GIVEN_UP, AvatarUploads, UploadLimits, _environment
from tests.photograph import moved_portrait
from tests.server_fakes import make_avatar

Scenario = Callable[[httpx.AsyncClient, AvatarUploads], Awaitable[None]]
LIMITS = UploadLimits(max_bytes=1 << 20)


def face_video(frames: int = 8, rate: int = 25, kind: str = "mp4") -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream("libx264", rate=rate)
        luma = moved_portrait(0)[0]
        stream.height, stream.width = (side // 2 * 2 for side in luma.shape)
        stream.pix_fmt = "yuv420p"
        for index in range(frames):
            luma = moved_portrait(index)[0][: stream.height, : stream.width]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(luma), format="gray")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def png(width: int, height: int) -> bytes:
    """A picture whose header promises a size that its data does not have."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def run(tmp_path: Path, scenario: Scenario, limits: UploadLimits = LIMITS) -> None:
    bundled, folder = tmp_path / "bundled", tmp_path / "uploads"
    make_avatar(bundled)

    async def main() -> None:
        uploads = AvatarUploads(folder, AvatarLibrary((bundled, folder)), limits)
        app = FastAPI()
        add_upload_routes(app, uploads, limits.max_bytes, lambda name: None)

        @app.exception_handler(LipwireError)
        async def on_error(request: object, error: LipwireError) -> JSONResponse:
            body = {"code": getattr(error, "code", ""), "message": str(error)}
            return JSONResponse({"error": body}, getattr(error, "status", 404))

        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            try:
                await scenario(client, uploads)
            finally:
                await uploads.close()

    asyncio.run(main())
    left = [path.name for path in folder.rglob("*") if path.suffix in (".part", ".new")]
    assert left == []


async def outcome(client: httpx.AsyncClient, name: str, body: bytes) -> dict[str, object]:
    """How an upload's job ends."""
    taken = await client.post("/v1/avatars", params={"name": name}, content=body)
    assert taken.status_code == 202, taken.text
    async with asyncio.timeout(120):
        while True:
            job: dict[str, object] = (await client.get(taken.json()["href"])).json()
            if job["state"] in ("done", "failed"):
                return job
            await asyncio.sleep(0.05)


def test_a_video_becomes_an_avatar_that_can_be_removed(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        job = await outcome(client, "eve", face_video(rate=50))
        assert (job["state"], job["percent"], job["message"]) == ("done", 100, "")
        avatar = load_avatar(uploads.folder / "eve")
        assert len(avatar.pictures) == 4, "25 a second, whatever the file has"
        left, right, nose = avatar.points[0]
        assert left[0] < nose[0] < right[0] and nose[1] > left[1]
        again = await client.post("/v1/avatars", params={"name": "eve"}, content=b"")
        assert (again.status_code, again.json()["error"]["code"]) == (409, "name_taken")
        assert (await client.delete("/v1/avatars/eve")).status_code == 204
        assert not uploads.is_own("eve")
        assert (await client.delete("/v1/avatars/eve")).status_code == 404

    run(tmp_path, scenario)


def test_what_cannot_be_decoded_fails_with_a_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    video = face_video()
    truncated = video[: len(video) // 3]
    files = {
        "truncated": truncated,
        "huge-picture": png(60_000, 60_000),
        "false-picture": png(1_000, 1_000)[:200],
        "no-face": png(512, 512),
        "noise": b"\x00\x00\x00\x20ftypisom" + bytes(range(256)) * 40,
    }

    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        for name, body in files.items():
            job = await outcome(client, name, body)
            message = str(job["message"])
            assert job["state"] == "failed" and "expected" in message, (name, job)
            assert str(tmp_path) not in message and "Error" not in message
            assert not (uploads.folder / name).exists()

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "body",
    [
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"<?xml version='1.0'?><MPD></MPD>",
        b"PK\x03\x04" + bytes(100),
        b"GIF89a" + bytes(100),
        b"short",
        b"",
    ],
)
def test_playlists_and_what_is_no_video_never_reach_a_decoder(tmp_path: Path, body: bytes) -> None:
    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        refused = await client.post("/v1/avatars", params={"name": "x"}, content=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (415, "format")
        assert "MP4" in refused.json()["error"]["message"]

    run(tmp_path, scenario)


@pytest.mark.parametrize(
    "name",
    ["../x", "..", ".", "", "a/b", "/etc", "a\x00b", "a" * 65, ".hidden", "ä", "x.mp4", "a b"],
)
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        refused = await client.post("/v1/avatars", params={"name": name}, content=face_video())
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "bad_name")
        assert not uploads.folder.exists()
        with pytest.raises(AvatarError):
            await uploads.remove(name)
        with pytest.raises(UploadRefused):
            uploads.describe(name)

    run(tmp_path, scenario)


def test_bundled_avatars_stay(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        refused = await client.delete("/v1/avatars/ada")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "not_uploaded")
        taken = await client.post("/v1/avatars", params={"name": "ada"}, content=b"")
        assert taken.status_code == 409

    run(tmp_path, scenario)


def test_a_body_without_end_is_cut_off(tmp_path: Path) -> None:
    given = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal given
        yield b"\x00\x00\x00\x20ftypisom"
        while True:
            given += 65_536
            yield bytes(65_536)

    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        refused = await client.post("/v1/avatars", params={"name": "x"}, content=endless())
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_large")
        assert given <= LIMITS.max_bytes + 65_536
        declared = {"content-length": str(LIMITS.max_bytes + 1)}
        refused = await client.post(
            "/v1/avatars", params={"name": "x"}, content=b"", headers=declared
        )
        assert refused.status_code == 413

    run(tmp_path, scenario)


def test_a_decoder_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        job = await outcome(client, "slow", face_video())
        assert (job["state"], job["message"]) == ("failed", "the file took too long to decode")

    run(tmp_path, scenario, replace(LIMITS, wall_s=0.01))


def test_a_decoder_that_takes_too_much_memory_fails_alone(tmp_path: Path) -> None:
    build = replace(LIMITS.build, memory_bytes=64 << 20)

    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        assert (await outcome(client, "large", face_video()))["state"] == "failed"

    run(tmp_path, scenario, replace(LIMITS, build=build))


def test_no_more_uploads_at_once_and_in_all_than_agreed(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        refused = await client.post("/v1/avatars", params={"name": "x"}, content=b"")
        assert (refused.status_code, refused.json()["error"]["code"]) == (507, "too_many_avatars")

    run(tmp_path, scenario, replace(LIMITS, max_avatars=0))

    async def busy(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        refused = await client.post("/v1/avatars", params={"name": "x"}, content=b"")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "uploads_busy")

    run(tmp_path / "busy", busy, replace(LIMITS, waiting=0))


def test_an_avatar_that_is_being_made_can_be_given_up(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        body = face_video(frames=80)
        taken = await client.post("/v1/avatars", params={"name": "eve"}, content=body)
        job = taken.json()["href"]
        async with asyncio.timeout(120):
            while (await client.get(job)).json()["state"] != "working":
                await asyncio.sleep(0.02)
        began = time.monotonic()
        assert (await client.delete("/v1/avatars/eve")).status_code == 204
        assert time.monotonic() - began < 5, "it is not waited for"
        told = (await client.get(job)).json()
        assert (told["state"], told["message"]) == ("failed", GIVEN_UP)
        assert [path.suffix for path in (uploads.folder / ".uploads").iterdir()] == [".json"]
        assert (await client.delete("/v1/avatars/eve")).status_code == 404

    run(tmp_path, scenario)


def test_a_client_that_goes_away_leaves_nothing_and_its_name_is_free(tmp_path: Path) -> None:
    begun = b"\x00\x00\x00\x20ftypisom" + bytes(4000)

    async def pieces() -> AsyncIterator[bytes]:
        yield begun
        raise ClientDisconnect

    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        for _ in range(2 * LIMITS.waiting):
            with pytest.raises(ClientDisconnect):
                await uploads.take("eve", pieces())
        assert list((uploads.folder / ".uploads").iterdir()) == []

    run(tmp_path, scenario)


def test_a_full_disk_is_507_and_nothing_half_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def full(path: Any, flags: int, mode: int = 0o777) -> int:
        """Whatever an upload is written to is a disk without room."""
        descriptor = real(path, flags, mode)
        if Path(path).suffix != ".part":
            return descriptor
        os.close(descriptor)
        return real("/dev/full", os.O_WRONLY)

    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        monkeypatch.setattr("server.avatars.uploads.os.open", full)
        body = b"\x00\x00\x00\x20ftypisom" + bytes(100_000)
        for _ in range(2 * LIMITS.waiting):
            answer = await client.post("/v1/avatars?name=eve", content=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (507, "disk_full")
            assert "disk is full" in error["message"]
        assert list((uploads.folder / ".uploads").iterdir()) == []

    run(tmp_path, scenario)


def test_a_disk_that_is_nearly_full_is_told_before_a_byte_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 3 * LIMITS.max_bytes - 1
    monkeypatch.setattr(
        "server.avatars.uploads.shutil.disk_usage", lambda path: SimpleNamespace(free=free)
    )

    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        answer = await client.post("/v1/avatars?name=eve", content=b"")
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "disk_full")
        assert list((uploads.folder / ".uploads").iterdir()) == []

    run(tmp_path, scenario)


def test_avatars_take_so_much_in_all_and_no_more(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        kept = uploads.folder / "ada" / "clip.mp4"
        kept.parent.mkdir(parents=True)
        kept.write_bytes(bytes((1 << 20) + 1))
        answer = await client.post("/v1/avatars?name=eve", content=b"")
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "avatars_full")
        assert "2 MiB in all" in answer.json()["error"]["message"]

    run(tmp_path, scenario, replace(LIMITS, max_total_bytes=2 << 20))


def test_a_decoder_that_fills_the_disk_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(*_: object) -> None:
        raise av.error.OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(building, "confine", lambda limits: None)
    monkeypatch.setattr(building, "build_avatar", build)
    assert building.main(["source", "folder", "eve", "{}"]) == 1
    assert json.loads(capsys.readouterr().out) == {"error": building.DISK_FULL}


def test_an_unknown_job_is_404(tmp_path: Path) -> None:
    async def scenario(client: httpx.AsyncClient, uploads: AvatarUploads) -> None:
        assert (await client.get(f"/v1/avatars/jobs/{'0' * 32}")).status_code == 404

    run(tmp_path, scenario)


def test_the_decoder_sees_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIPWIRE_TOKEN_SECRET", "s" * 40)
    assert "s" * 40 not in json.dumps(_environment(LIMITS.build))
