"""`lipwire fetch`: a published model, downloaded, verified, converted once.

What is downloaded lies in `.downloads` beside the models until the model is made, under
names that hold its digest: an interrupted download goes on where it stopped, in the next
run too (huggingface_hub's own `hf_hub_download` forgets it). A file that the hub's cache
already has is taken from there. The model folder is made under another name and renamed
at the end, so a half-made one is never taken for a model.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.checkpoints import MODEL_FILE, altered_files, models_dir
from engine.errors import ConfigError, LipwireError
from engine.face.mask import mask_from_picture
from engine.published import (
    FACE_LICENCE,
    PUBLISHED,
    PUBLISHED_SYNCNETS,
    HubFile,
    PublishedModel,
)
from engine.spec import ModelSpec
from server.commands.fetch_syncnet import fetch_syncnet
from server.commands.hub import Hub, Progress
from server.commands.model_folder import (
    DOWNLOADS,
    SOURCE_FILE,
    Fetched,
    FetchOptions,
    alone,
    disk_error,
    gb,
    put_in_place,
    remove,
    require_packages,
    require_space,
    source_note,
    write_json,
)

if TYPE_CHECKING:
    from engine.models.convert import Part, StoredPrecision


def fetch(
    published: PublishedModel, parent: Path, options: FetchOptions, progress: Progress
) -> Fetched:
    """Brings a published model into a folder of its name.

    Args:
        parent: the folder of models.

    Raises:
        FetchError: the network, the disk, a digest; nothing half-made is left behind.
        ModelError: the files are not those of this architecture (StateDictMismatch).
    """
    name = published.spec.name
    folder = parent / name
    precision = options.precision
    if (folder / MODEL_FILE).is_file() and not options.force:
        have = _stored_precision(folder)
        problems = _problems(folder, progress)
        if not problems and precision in (None, have):
            changed = options.mask is not None and _remask(folder, options.mask)
            return _report(name, folder, have, made=changed)
        for problem in problems:
            progress.say(f"{folder}: {problem}, making it anew")
        precision = precision or have
    require_packages()
    with alone(parent):
        return _make(published, parent, replace(options, precision=precision or "f16"), progress)


def _make(
    published: PublishedModel, parent: Path, options: FetchOptions, progress: Progress
) -> Fetched:
    precision = options.precision or "f16"
    spec = published.spec
    if not options.faces:
        published = replace(published, faces=())
    hub = Hub(parent / DOWNLOADS, progress)
    promises = [hub.promise(file, options.allow_changed) for file in published.files]
    # torch is imported when it is known that there is something to convert.
    from engine.models.convert import FILES, convert_weights, stored_bytes

    stored = stored_bytes(spec, precision) + sum(file.size for file in published.faces)
    require_space(parent, promises, stored, progress)
    paths = {promise.file: hub.bring(promise) for promise in promises}

    made = parent / f".{spec.name}.making"
    remove(made)
    made.mkdir()
    try:
        digests: dict[str, str] = {}
        sources: tuple[tuple[Part, HubFile], ...] = (
            ("unet", published.unet),
            ("codec", published.codec),
            ("audio_encoder", published.audio_encoder),
        )
        with progress.bar(f"converting to {precision}", stored) as bar:
            for part, file in sources:
                digests[FILES[part]] = convert_weights(
                    part, paths[file], made, spec, precision, bar.update
                )
            for promise in promises:
                if promise.file in published.faces:
                    shutil.copyfile(paths[promise.file], made / promise.file.name)
                    digests[promise.file.name] = promise.sha256
                    bar.update(promise.file.size)
        write_json(made / SOURCE_FILE, source_note(promises, precision))
        licence = f"{spec.licence}; {FACE_LICENCE}" if published.faces else spec.licence
        face = replace(spec.face, mask=options.mask or spec.face.mask)
        written = replace(spec, licence=licence, digests=digests, face=face)
        (made / MODEL_FILE).write_text(written.to_json(), encoding="utf-8")
        put_in_place(made, parent / spec.name)
    except OSError as error:
        raise disk_error(error, parent) from error
    finally:
        remove(made)
    if not options.keep_downloads:
        hub.forget(promises)
    report = _report(spec.name, parent / spec.name, precision, made=True)
    return replace(report, downloaded_bytes=hub.downloaded_bytes)


def _remask(folder: Path, mask: str) -> bool:
    """Whether a folder that was made before had another mask; it then has this one."""
    spec = ModelSpec.read(folder)
    if spec.face.mask == mask:
        return False
    written = folder / f".{MODEL_FILE}"
    written.write_text(replace(spec, face=replace(spec.face, mask=mask)).to_json(), "utf-8")
    written.replace(folder / MODEL_FILE)
    return True


def read_mask(path: Path) -> str:
    """`FaceSpec.mask` of a picture file.

    Raises:
        ConfigError: it cannot be read or is no mask.
    """
    try:
        return mask_from_picture(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"--mask: cannot read {path}: {error.strerror}") from error


def _problems(folder: Path, progress: Progress) -> list[str]:
    """What is wrong with a folder that was made before."""
    try:
        spec = ModelSpec.read(folder)
    except LipwireError as error:
        return [str(error)]
    total = sum((folder / f).stat().st_size for f in spec.digests if (folder / f).is_file())
    with progress.bar("verifying", total) as bar:
        return altered_files(folder, spec, bar.update)


def _stored_precision(folder: Path) -> StoredPrecision:
    try:
        stored = json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))["precision"]
    except (OSError, ValueError, KeyError, TypeError):
        return "f16"
    return "f32" if stored == "f32" else "f16"


def _report(name: str, folder: Path, precision: str, *, made: bool) -> Fetched:
    files = ModelSpec.read(folder).digests
    size = sum((folder / file).stat().st_size for file in files)
    return Fetched(name, folder, made, 0, size, precision, len(files))


def add_fetch_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `lipwire fetch`."""
    choices = sorted([*PUBLISHED, *PUBLISHED_SYNCNETS])
    parser.add_argument("model", choices=choices, help="what to fetch")
    parser.add_argument(
        "--dir", type=Path, help="folder of models (LIPWIRE_MODELS_DIR, else the data folder)"
    )
    parser.add_argument(
        "--precision", choices=["f16", "f32"], help="what the weights are stored as (f16)"
    )
    parser.add_argument("--force", action="store_true", help="make it anew, whatever is there")
    parser.add_argument(
        "--no-faces",
        dest="faces",
        action="store_false",
        help="without InsightFace's models, which are for non-commercial research only",
    )
    parser.add_argument(
        "--keep-downloads",
        action="store_true",
        help="keep the downloaded files after the conversion",
    )
    parser.add_argument(
        "--allow-changed",
        action="store_true",
        help="take files that the hub has replaced since this version of lipwire",
    )
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="PNG",
        help="the mask that the model was trained with, white where the face is kept: "
        "LatentSync 1.6's is latentsync/utils/mask2.png of its repository",
    )
    parser.add_argument("--json", action="store_true", help="write JSON, show no progress")


def run_fetch(arguments: argparse.Namespace) -> int:
    """`lipwire fetch` with parsed arguments; returns the exit status."""
    options = FetchOptions(
        precision=arguments.precision,
        force=arguments.force,
        faces=arguments.faces,
        keep_downloads=arguments.keep_downloads,
        allow_changed=arguments.allow_changed,
        mask=None if arguments.mask is None else read_mask(arguments.mask),
    )
    parent = arguments.dir or models_dir()
    progress = Progress(quiet=arguments.json)
    syncnet = PUBLISHED_SYNCNETS.get(arguments.model)
    if syncnet is not None:
        fetched = fetch_syncnet(syncnet, parent, options, progress)
    else:
        fetched = fetch(PUBLISHED[arguments.model], parent, options, progress)
    if arguments.json:
        report = {**asdict(fetched), "folder": str(fetched.folder)}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
        return 0
    size = gb(fetched.stored_bytes)
    if fetched.made:
        sys.stdout.write(f"{fetched.name}: made {size} in {fetched.folder}\n")
    else:
        sys.stdout.write(
            f"{fetched.name}: already in {fetched.folder}, "
            f"{fetched.files} files ({size}) as recorded\n"
        )
    if syncnet is not None:
        sys.stdout.write(f"licence: {syncnet.licence}\n")
        return 0
    spec = ModelSpec.read(fetched.folder)
    other_mask = PUBLISHED[arguments.model].other_mask
    if other_mask is not None and spec.face.mask == "latentsync":
        sys.stdout.write(
            f"{fetched.name} has LatentSync 1.5's mask; it was trained with {other_mask} of "
            "LatentSync's repository: give that file with --mask\n"
        )
    model = fetched.name if parent == models_dir() else fetched.folder
    sys.stdout.write(f"licence: {spec.licence}\nto use it: lipwire serve --model {model}\n")
    return 0
