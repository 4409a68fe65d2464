"""Files of the Hugging Face hub: what it promises, brought and verified.

huggingface_hub does the asking and the transfer, so `HF_ENDPOINT`, `HF_HUB_OFFLINE`,
`HF_TOKEN`, proxies and its cache mean here what they mean everywhere. It is imported
when a `Hub` is made: the default install does not have it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import rich.progress
from rich.console import Console

from engine.checkpoints import file_digest
from engine.errors import FetchError
from engine.published import HubFile
from server.commands.safe_transfer import BoundedFile, https_only, require_https

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Bar(Protocol):
    """How far something is, shown to a person."""

    def update(self, n: float = 1) -> object:
        """Goes on by n bytes."""


class _NoBar:
    def update(self, n: float = 1) -> None:
        pass


class _RichBar:
    def __init__(self, progress: rich.progress.Progress, task: rich.progress.TaskID) -> None:
        self._progress, self._task = progress, task

    def update(self, n: float = 1) -> None:
        self._progress.advance(self._task, n)


@dataclass(frozen=True, slots=True)
class Progress:
    """What a person sees of long work, on standard error; nothing where nobody looks."""

    quiet: bool = False

    def say(self, line: str) -> None:
        """Shows a line."""
        if not self.quiet:
            sys.stderr.write(f"{line}\n")

    @contextlib.contextmanager
    def bar(self, label: str, total_bytes: float | None, done_bytes: float = 0) -> Iterator[Bar]:
        """A bar that stands at `done_bytes`."""
        if self.quiet or not sys.stderr.isatty():
            yield _NoBar()
            return
        with rich.progress.Progress(
            "{task.description}",
            rich.progress.BarColumn(),
            rich.progress.DownloadColumn(),
            rich.progress.TransferSpeedColumn(),
            rich.progress.TimeRemainingColumn(),
            console=Console(stderr=True),
        ) as progress:
            task = progress.add_task(label, total=total_bytes, completed=int(done_bytes))
            yield _RichBar(progress, task)

    def as_tqdm(self) -> Any:
        """A class that huggingface_hub takes for tqdm's, showing our bar."""
        progress = self

        class HubBar(contextlib.ExitStack):
            def __init__(
                self, *, desc: str, total: int | None, initial: int = 0, **_: object
            ) -> None:
                super().__init__()
                self._bar = self.enter_context(progress.bar(desc, total, initial))

            def update(self, n: float = 1) -> None:
                self._bar.update(n)

        return HubBar


@dataclass(frozen=True, slots=True)
class Promise:
    """What is going to be brought.

    Attributes:
        sha256, size: of the bytes.
        commit: of the repository; "" when the hub was not asked.
        url: where they are; "" when the hub cannot be asked.
        cached: in the hub's cache or brought by an earlier run, not verified yet.
        part: bytes of it that an earlier run has brought.
    """

    file: HubFile
    sha256: str
    size: int
    commit: str
    url: str
    cached: Path | None
    part: int

    @property
    def missing_bytes(self) -> int:
        """What is still to be downloaded."""
        return 0 if self.cached else self.size - self.part


class Hub:
    """The hub, and a folder of our own for what comes from it."""

    def __init__(self, downloads: Path, progress: Progress) -> None:
        from huggingface_hub import constants

        self.downloads = downloads
        self.downloaded_bytes = 0
        self._progress = progress
        self.endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")
        require_https(self.endpoint, "HF_ENDPOINT")
        self.offline = bool(constants.HF_HUB_OFFLINE)

    def promise(self, file: HubFile, allow_changed: bool = False) -> Promise:
        """What the hub has under a file's name now, and what of it is here already.

        Args:
            allow_changed: take the hub's word where it differs from the file's own digest.

        Raises:
            FetchError: no answer, no such file, or not the file that is expected.
        """
        cached = self._cached(file.sha256, file)
        if cached is not None or (self.offline and file.sha256):
            if cached is None:
                raise FetchError(
                    f"HF_HUB_OFFLINE is set, and {file.path} of {file.repo} is neither in the "
                    f"hub's cache nor in {self.downloads}"
                )
            return Promise(file, file.sha256, file.size, "", "", cached, 0)
        metadata, url = self._metadata(file)
        etag = str(metadata.etag or "")
        said = etag if _SHA256.fullmatch(etag) else ""
        sha256 = file.sha256 or said
        if not sha256:
            raise FetchError(
                f"{self.endpoint} promises no SHA-256 for {file.path} of {file.repo}, got {etag!r}"
            )
        size = metadata.size if metadata.size is not None else file.size
        if said and said != sha256:
            if not allow_changed:
                raise FetchError(
                    f"{file.path} of {file.repo} is not the file that this version of lipwire "
                    f"knows: expected SHA-256 {sha256}, {self.endpoint} has {said} "
                    f"({size} bytes). If that is a new release, take it with --allow-changed"
                )
            sha256 = said
        cached = self._cached(sha256, file)
        part = self._part(sha256, file)
        have = min(part.stat().st_size, size) if part.is_file() else 0
        return Promise(file, sha256, size, metadata.commit_hash or "", url, cached, have)

    def bring(self, promise: Promise) -> Path:
        """The file, every byte of it verified.

        Raises:
            FetchError: the network, the disk, or another digest than promised.
        """
        file = promise.file
        if promise.cached is not None:
            have = self._digest(promise.cached, file)
            if have == promise.sha256:
                return promise.cached
            self._progress.say(f"{promise.cached}: SHA-256 {have}, expected {promise.sha256}")
            if promise.cached.parent == self.downloads:
                promise.cached.unlink()
            if self.offline:
                self._refuse(file, promise.sha256, have, str(promise.cached))
            if not promise.url:
                metadata, url = self._metadata(file)
                promise = Promise(
                    file, promise.sha256, promise.size, metadata.commit_hash or "", url, None, 0
                )
        part = self._part(promise.sha256, file)
        self._download(promise, part)
        have = self._digest(part, file)
        if have != promise.sha256:
            part.unlink()
            self._refuse(file, promise.sha256, have, self.endpoint)
        whole = self._whole(promise.sha256, file)
        part.rename(whole)
        return whole

    def forget(self, promises: Sequence[Promise]) -> None:
        """Deletes what was brought; what another model has brought in part stays."""
        for promise in promises:
            self._whole(promise.sha256, promise.file).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.downloads.rmdir()

    def _refuse(self, file: HubFile, want: str, have: str, where: str) -> NoReturn:
        raise FetchError(
            f"{file.path} of {file.repo}: expected SHA-256 {want}, got {have} from {where}; "
            "it was not used"
        )

    def _whole(self, sha256: str, file: HubFile) -> Path:
        return self.downloads / f"{sha256[:16]}-{file.name}"

    def _part(self, sha256: str, file: HubFile) -> Path:
        whole = self._whole(sha256, file)
        return whole.with_name(f"{whole.name}.part")

    def _cached(self, sha256: str, file: HubFile) -> Path | None:
        from huggingface_hub import try_to_load_from_cache

        if sha256 and (whole := self._whole(sha256, file)).is_file():
            return whole
        found = try_to_load_from_cache(file.repo, file.path, revision=file.revision)
        if not isinstance(found, str):
            return None
        path = Path(found)
        # A name in the cache may stand for an older file: its bytes are hashed before use, so
        # only what cannot be it is passed over here.
        return path if not file.size or path.stat().st_size == file.size else None

    def _metadata(self, file: HubFile) -> tuple[Any, str]:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        url = hf_hub_url(file.repo, file.path, revision=file.revision, endpoint=self.endpoint)
        with https_only(), self._translated(file):
            metadata = get_hf_file_metadata(url, endpoint=self.endpoint)
        if metadata.commit_hash is None:
            raise FetchError(
                f"{self.endpoint} does not answer as a Hugging Face hub does: check HF_ENDPOINT, "
                "and whether a proxy or a sign-in page stands between"
            )
        return metadata, url

    def _download(self, promise: Promise, part: Path) -> None:
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        self.downloads.mkdir(parents=True, exist_ok=True)
        have = part.stat().st_size if part.is_file() else 0
        if have > promise.size:
            part.unlink()
            have = 0
        if have:
            self._progress.say(f"{promise.file.path}: going on after {have} bytes")
        with https_only(), self._translated(promise.file, part):
            try:
                with BoundedFile(part, promise.size) as target:
                    http_get(
                        promise.url,
                        target,
                        resume_size=have,
                        headers=build_hf_headers(),
                        expected_size=promise.size,
                        displayed_filename=promise.file.path,
                        tqdm_class=self._progress.as_tqdm(),
                    )
            finally:
                if part.is_file():
                    self.downloaded_bytes += max(part.stat().st_size - have, 0)

    def _digest(self, path: Path, file: HubFile) -> str:
        with self._progress.bar(f"verifying {file.name}", path.stat().st_size) as bar:
            return file_digest(path, bar.update)

    @contextlib.contextmanager
    def _translated(self, file: HubFile, part: Path | None = None) -> Iterator[None]:
        """Makes what the hub's client raises a FetchError that says what to do."""
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        what = f"{file.path} of {file.repo}"
        # The bases of the hub's own error: the HTTP client's (httpx or httpx2, by the hub's
        # version), and OSError.
        transport: tuple[type[Exception], ...] = HfHubHTTPError.__bases__
        try:
            yield
        except OfflineModeIsEnabled as error:
            raise FetchError(f"HF_HUB_OFFLINE is set, and {what} is not here") from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status == 404:
                said = f"{self.endpoint} has no {what} at revision {file.revision} (HTTP 404)"
            elif status in (401, 403):
                said = (
                    f"{self.endpoint} does not give out {what} (HTTP {status}): no such "
                    "repository, or it needs a token in HF_TOKEN"
                )
            else:
                said = f"{self.endpoint} answered HTTP {status} for {what}; try again later"
            raise FetchError(said) from error
        except transport as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise FetchError(f"the disk of {self.downloads} is full: {what}") from error
            kept = ""
            if part is not None and part.is_file() and part.stat().st_size:
                kept = f" ({part.stat().st_size} bytes are kept, the next run goes on from there)"
            raise FetchError(
                f"cannot get {what} from {self.endpoint}: {error or type(error).__name__}{kept}; "
                "check the network and proxy settings, or set HF_ENDPOINT to a mirror"
            ) from error
