"""The published sync network, downloaded and checked key by key, kept as it is.

A folder of its own beside the models: `stable_syncnet.pt` in the published f32, and
`source.json` with where it came from. Serving never reads it; training and measuring do
(`engine.models.syncnet.load_syncnet`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from engine.checkpoints import file_digest
from engine.errors import FetchError
from engine.published import PublishedSyncnet
from server.commands.hub import Hub, Progress
from server.commands.model_folder import (
    DOWNLOADS,
    SOURCE_FILE,
    Fetched,
    FetchOptions,
    alone,
    disk_error,
    put_in_place,
    remove,
    require_packages,
    require_space,
    source_note,
    write_json,
)


def fetch_syncnet(
    published: PublishedSyncnet, parent: Path, options: FetchOptions, progress: Progress
) -> Fetched:
    """Brings a published sync network into a folder of its name.

    Args:
        parent: the folder of models.
        options: precision and faces are of no account here.

    Raises:
        FetchError: the network, the disk, a digest; nothing half-made is left behind.
        ModelError: the file is not that of this architecture (StateDictMismatch).
    """
    if options.precision == "f16":
        raise FetchError(f"{published.name} is kept as it is published, in f32")
    folder = parent / published.name
    if not options.force and _intact(folder, published.weights.name, progress):
        return _report(published, folder)
    require_packages()
    with alone(parent):
        return _make(published, parent, options, progress)


def _make(
    published: PublishedSyncnet, parent: Path, options: FetchOptions, progress: Progress
) -> Fetched:
    from engine.models.syncnet import check_syncnet

    hub = Hub(parent / DOWNLOADS, progress)
    promise = hub.promise(published.weights, options.allow_changed)
    require_space(parent, [promise], promise.size, progress)
    weights = hub.bring(promise)
    check_syncnet(weights)
    made = parent / f".{published.name}.making"
    remove(made)
    made.mkdir()
    try:
        shutil.copyfile(weights, made / published.weights.name)
        write_json(made / SOURCE_FILE, source_note([promise], "f32"))
        put_in_place(made, parent / published.name)
    except OSError as error:
        raise disk_error(error, parent) from error
    finally:
        remove(made)
    if not options.keep_downloads:
        hub.forget([promise])
    return _report(published, parent / published.name, hub.downloaded_bytes, made=True)


def _intact(folder: Path, name: str, progress: Progress) -> bool:
    """Whether an earlier run's file is there, byte for byte as recorded."""
    try:
        stored = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))
        (recorded,) = stored["files"]
        want = recorded["sha256"]
        size = (folder / name).stat().st_size
        with progress.bar("verifying", size) as bar:
            have = file_digest(folder / name, bar.update)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(have == want)


def _report(
    published: PublishedSyncnet, folder: Path, downloaded: int = 0, *, made: bool = False
) -> Fetched:
    size = (folder / published.weights.name).stat().st_size
    return Fetched(published.name, folder, made, downloaded, size, "f32", 1)
