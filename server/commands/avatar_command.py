"""`lipwire avatar`: the avatars on this machine listed, added and removed."""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from engine.errors import AvatarError, MediaError
from server.avatars.building import BuildLimits, build_avatar
from server.avatars.library import NAME, AvatarInfo, AvatarLibrary
from server.avatars.uploads import WORK
from server.config import Settings, load_settings

MAX_SECONDS = 60  # one's own clip may be longer than a stranger's


def add_avatar_arguments(actions: Any, examples: str) -> None:
    """Adds the actions of `lipwire avatar`."""

    def action(name: str, summary: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(
            name,
            help=summary,
            description=f"{summary[0].upper()}{summary[1:]}.",
            epilog=examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("--json", action="store_true", help="for programs")
        return parser

    listing = action("list", "list the avatars")
    listing.add_argument(
        "--dir", action="append", type=Path, default=[], help="a folder of avatars, may be repeated"
    )
    listing.set_defaults(run=run_list)

    adding = action("add", "make an avatar of a video or a picture of one face")
    adding.add_argument(
        "clip", type=Path, help=f"MP4, MOV, WebM (up to {MAX_SECONDS} s), JPEG, PNG"
    )
    adding.add_argument("--name", help="letters, digits, - and _ (the file's name)")
    adding.add_argument("--title", help="what the page calls it (the name)")
    adding.add_argument("--licence", default="", help="of the pictures, shown in the list")
    adding.add_argument("--dir", type=Path, help="folder to put it into (where `serve` looks)")
    adding.set_defaults(run=run_add)

    removing = action("remove", "remove an avatar that was added")
    removing.add_argument("name")
    removing.add_argument("--dir", type=Path, help="folder it lies in (where `serve` looks)")
    removing.set_defaults(run=run_remove)


def add_avatar(
    clip: Path, name: str, title: str, licence: str, folder: Path, settings: Settings, progress: Any
) -> AvatarInfo:
    """Makes an avatar in `folder`, whole or not at all.

    Args:
        progress: called with whole percents.

    Raises:
        AvatarError: the name cannot be used or is taken, or the clip shows no face.
        MediaError: the clip cannot be read.
    """
    if not NAME.fullmatch(name):
        raise AvatarError(
            f"expected a name of 1 to 64 letters, digits, - and _, got {name!r}: give --name"
        )
    library = AvatarLibrary((folder, *settings.avatar_path))
    if name in {info.name for info in library.infos()} or (folder / name).exists():
        raise AvatarError(f"expected another name than {name!r}, which is taken: give --name")
    if not clip.is_file():
        raise MediaError(f"expected a video or picture at {clip}, found none")
    work = folder / WORK
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = work / secrets.token_hex(8)
    limits = replace(
        BuildLimits(),
        max_seconds=MAX_SECONDS,
        max_width=settings.max_width,
        max_height=settings.max_height,
    )
    try:
        build_avatar(clip, part, name, limits, progress)
        described = part / "avatar.json"
        description = json.loads(described.read_text(encoding="utf-8"))
        description |= {"title": title, "licence": licence}
        described.write_text(json.dumps(description), encoding="utf-8")
        part.rename(folder / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return library.get(name)


def run_list(arguments: argparse.Namespace) -> int:
    """`lipwire avatar list`; the exit status."""
    avatars = AvatarLibrary((*arguments.dir, *load_settings().avatar_path)).infos()
    if arguments.json:
        _write_json([_entry(info) for info in avatars])
        return 0
    for info in avatars:
        size = f"{info.width}x{info.height}"
        sys.stdout.write(f"{info.name:16} {size:>10} {info.frames:5} frames  {info.title}\n")
    return 0


def run_add(arguments: argparse.Namespace) -> int:
    """`lipwire avatar add`; the exit status."""
    settings = load_settings()
    name = arguments.name or arguments.clip.stem
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        console=console,
        disable=arguments.json or not console.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task("looking for the face", total=100)
        info = add_avatar(
            arguments.clip,
            name,
            arguments.title or name,
            arguments.licence,
            arguments.dir or settings.uploads_path,
            settings,
            lambda percent: progress.update(task, completed=percent),
        )
    if arguments.json:
        _write_json(_entry(info))
        return 0
    sys.stdout.write(
        f"{info.name}: {info.frames} frames of {info.width}x{info.height} in {info.folder}\n"
        f"to see it: lipwire render --avatar {info.name} --audio speech.wav --out out.mp4, "
        "or the page of lipwire serve\n"
    )
    return 0


def run_remove(arguments: argparse.Namespace) -> int:
    """`lipwire avatar remove`; the exit status."""
    settings = load_settings()
    folder = arguments.dir or settings.uploads_path
    name = arguments.name
    if not NAME.fullmatch(name) or not (folder / name / "avatar.json").is_file():
        added = ", ".join(info.name for info in AvatarLibrary((folder,)).infos()) or "none"
        raise AvatarError(f"expected an avatar that was added ({added}), got {name!r}")
    shutil.rmtree(folder / name)
    if arguments.json:
        _write_json({"removed": name})
    else:
        sys.stdout.write(f"{name}: removed\n")
    return 0


def _entry(info: AvatarInfo) -> dict[str, object]:
    return {
        "name": info.name,
        "title": info.title,
        "width": info.width,
        "height": info.height,
        "frames": info.frames,
        "licence": info.licence,
        "folder": str(info.folder),
    }


def _write_json(value: object) -> None:
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
