"""`lipwire doctor`: what this machine can run, what is missing, and what to do."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import socket
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from engine.backends.availability import BROKEN_REASONS, Ready
from engine.backends.select import describe_backends
from engine.checkpoints import BUNDLED, altered_files, models_dir, resolve_model
from engine.cpu import cpu_flags
from engine.errors import LipwireError
from engine.face.detect import has_insightface
from engine.plans.cache import PlanCache
from engine.published import PUBLISHED
from engine.spec import ModelSpec
from server.config import load_settings

Verdict = Literal["ok", "note", "warn", "bad"]

DEFAULT_PORT = 8080
CPU_FEATURES = {
    "avx2": "avx2",
    "avx512f": "AVX-512",
    "avx512_bf16": "bf16",
    "amx_bf16": "AMX bf16",
    "amx_int8": "AMX int8",
    "asimd": "NEON",
    "bf16": "bf16",
}
# Codec name in PyAV, mode, and who needs it.
CODECS = (
    ("opus", "r", "speech from the browser"),
    ("libopus", "w", "speech to the browser"),
    ("h264", "r", "avatar clips and H.264 cameras"),
    ("libx264", "w", "H.264 to the browser"),
    ("libvpx", "r", "VP8 cameras"),
    ("libvpx", "w", "VP8 to the browser"),
)
CASCADE = "haarcascade_frontalface_alt2.xml"
AVATARS_DIR = Path(__file__).resolve().parents[2] / "engine" / "bundled" / "avatars"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        verdict: "ok", "note" (works, could be better), "warn" (should work here and does not) or
            "bad" (serving fails).
        found: what is there.
        remedy: what to do; empty when there is nothing to do.
    """

    name: str
    verdict: Verdict
    found: str
    remedy: str = ""


def check_python() -> list[Check]:
    """The interpreter's version."""
    found = f"{platform.python_implementation()} {platform.python_version()}"
    return [Check("python", "ok", found)]


def check_cpu() -> list[Check]:
    """Cores and the vector units that inference uses."""
    flags = cpu_flags()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    units = [label for flag, label in CPU_FEATURES.items() if flag in flags]
    found = f"{cores} cores, {platform.machine()}, {', '.join(units) or 'features unknown'}"
    if cores is not None and cores < 2:
        return [Check("cpu", "note", found, "two cores: one for inference, one for media")]
    if flags and "amx_bf16" not in flags:
        return [Check("cpu", "note", found, "a CPU with AMX bf16 infers about twice as fast")]
    return [Check("cpu", "ok", found)]


def check_model(model: str = "bundled") -> list[Check]:
    """The model folder: readable, every file there and unaltered."""
    label = f"model {model}"
    try:
        folder = resolve_model(model)
        spec = ModelSpec.read(folder)
    except LipwireError as error:
        return [Check(label, "bad", str(error), _model_remedy(model))]
    broken = altered_files(folder, spec)
    if broken:
        return [Check(label, "bad", "; ".join(broken), _model_remedy(model))]
    found = f"{spec.name}, {spec.resolution} px, {len(spec.digests)} files as recorded"
    return [Check(label, "ok", found)]


def _model_remedy(model: str) -> str:
    if model == BUNDLED:
        return "reinstall Lipwire"
    return f"lipwire fetch {model}" if model in PUBLISHED else "restore the model folder"


def check_published() -> list[Check]:
    """Which published models have been fetched; their digests are for `check_model`."""
    checks = []
    for name in PUBLISHED:
        try:
            folder = resolve_model(name)
            spec = ModelSpec.read(folder)
        except LipwireError as error:
            absent = not (models_dir() / name).exists()
            found = f"not in {models_dir()}" if absent else str(error)
            checks.append(Check(f"model {name}", "note", found, _model_remedy(name)))
            continue
        missing = [file for file in sorted(spec.digests) if not (folder / file).is_file()]
        if missing:
            found = f"{folder} lacks {', '.join(missing)}"
            checks.append(Check(f"model {name}", "note", found, _model_remedy(name)))
            continue
        size = sum((folder / file).stat().st_size for file in spec.digests)
        found = f"{spec.resolution} px, {size / 1e9:.1f} GB in {folder}"
        checks.append(Check(f"model {name}", "ok", found))
    return checks


def check_backends(model: str = "bundled") -> list[Check]:
    """What can run the model; bad only when nothing can."""
    try:
        found = describe_backends(resolve_model(model))
    except LipwireError as error:
        return [Check("backends", "bad", str(error), "repair the model first")]
    checks = []
    for name, item in found.items():
        if isinstance(item, Ready):
            checks.append(Check(f"backend {name}", "ok", item.detail))
        else:
            verdict: Verdict = "warn" if item.reason in BROKEN_REASONS else "note"
            checks.append(Check(f"backend {name}", verdict, item.detail, item.remedy))
    chosen = next((name for name, item in found.items() if isinstance(item, Ready)), None)
    if chosen is None:
        checks.append(Check("backend auto", "bad", "none", "pip install openvino"))
    else:
        checks.append(Check("backend auto", "ok", f"chooses {chosen}"))
    return checks


def check_plans(plans: PlanCache | None) -> list[Check]:
    """The folder of compiled graphs: what is in it, and whether more can be kept."""
    if plans is None:
        return [Check("plans", "note", "not kept: plan_cache is off", "unset LIPWIRE_PLAN_CACHE")]
    there = next(path for path in (plans.folder, *plans.folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        found = f"{plans.folder} cannot be written: graphs are compiled at every start"
        return [Check("plans", "note", found, "give its user the folder, or set LIPWIRE_PLANS_DIR")]
    kept = plans.plans()
    found = f"{len(kept)} in {plans.folder}, {sum(item.size_bytes for item in kept) / 1e6:.0f} MB"
    damaged = sum(bool(item.problem) for item in kept)
    if damaged:
        return [Check("plans", "note", f"{found}, {damaged} damaged", "lipwire plans prune")]
    return [Check("plans", "ok", found)]


def check_avatars(folder: Path = AVATARS_DIR) -> list[Check]:
    """The bundled avatars."""
    names = sorted(path.parent.name for path in folder.glob("*/avatar.json"))
    broken = [name for name in names if not (folder / name / "clip.mp4").is_file()]
    if broken:
        found = f"no clip.mp4 for {', '.join(broken)}"
        return [Check("avatars", "bad", found, "reinstall Lipwire")]
    if not names:
        return [Check("avatars", "note", f"none in {folder}", "lipwire avatar add CLIP")]
    return [Check("avatars", "ok", ", ".join(names))]


def check_cascade() -> list[Check]:
    """OpenCV's face cascade, which finds faces in live mode."""
    spec = importlib.util.find_spec("cv2")
    if spec is None or spec.origin is None:
        return [Check("opencv", "bad", "missing", 'pip install "opencv-python-headless<5"')]
    import cv2

    if not (Path(spec.origin).parent / "data" / CASCADE).is_file():
        found = f"OpenCV {cv2.__version__} without {CASCADE}"
        return [Check("opencv", "bad", found, 'pip install "opencv-python-headless<5"')]
    return [Check("opencv", "ok", f"OpenCV {cv2.__version__} with its face cascade")]


def check_faces(model: str = "bundled") -> list[Check]:
    """What finds faces in live mode and in videos."""
    try:
        folder = resolve_model(model)
    except LipwireError:
        return []  # `check_model` says so
    if has_insightface(folder):
        return [Check("faces", "ok", f"InsightFace's models in {folder}")]
    if model in PUBLISHED:
        found = "OpenCV's cascade; this model was trained with InsightFace's landmarks"
        return [Check("faces", "note", found, f"lipwire fetch {model}")]
    return [Check("faces", "ok", "OpenCV's cascade")]


def check_codecs() -> list[Check]:
    """The codecs that WebRTC and the avatars need, in PyAV's build of FFmpeg."""
    if importlib.util.find_spec("av") is None:
        return [Check("codecs", "bad", "PyAV is not installed", "pip install av")]
    import av

    missing = []
    for name, mode, purpose in CODECS:
        try:
            av.codec.Codec(name, "r" if mode == "r" else "w")
        except av.codec.codec.UnknownCodecError:
            missing.append(f"{name} ({purpose})")
    version = f"PyAV {av.__version__}"
    if missing:
        found = f"{version} lacks {', '.join(missing)}"
        return [Check("codecs", "bad", found, "pip install --force-reinstall av")]
    return [Check("codecs", "ok", f"{version}: opus, h264, vp8")]


def check_network() -> list[Check]:
    """An address that ICE can offer: aioice never offers the loopback."""
    if importlib.util.find_spec("ifaddr") is None:
        return [Check("network", "bad", "ifaddr is not installed", "pip install aiortc")]
    import ifaddr

    addresses = [
        str(ip.ip)
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
        if ip.is_IPv4 and not str(ip.ip).startswith("127.")
    ]
    if not addresses:
        remedy = "bring up a network interface: WebRTC offers no loopback address"
        return [Check("network", "bad", "only the loopback interface", remedy)]
    return [Check("network", "ok", ", ".join(addresses))]


def check_ports(port: int = DEFAULT_PORT) -> list[Check]:
    """The HTTP port is free and a UDP port can be had."""
    checks = []
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tcp.bind(("0.0.0.0", port))
            checks.append(Check("http port", "ok", f"{port} is free"))
        except OSError as error:
            found = f"{port}: {error.strerror}"
            remedy = "stop what listens there, or serve on another port"
            checks.append(Check("http port", "note", found, remedy))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        try:
            udp.bind(("0.0.0.0", 0))
            checks.append(Check("udp", "ok", "a UDP port can be opened"))
        except OSError as error:
            found = f"no UDP port: {error.strerror}"
            checks.append(Check("udp", "bad", found, "allow UDP for this process"))
    return checks


def check_packages() -> list[Check]:
    """The distributions that serving needs."""
    wanted = ("numpy", "fastapi", "uvicorn", "aiortc", "av")
    found = []
    checks = []
    for name in wanted:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            checks.append(Check(name, "bad", "not installed", f"pip install {name}"))
    return [*checks, Check("packages", "ok", ", ".join(found))]


def examine(model: str = "bundled", port: int = DEFAULT_PORT) -> list[Check]:
    """Every finding about this machine, in the order in which they are shown."""
    parts: tuple[Callable[[], Iterable[Check]], ...] = (
        check_python,
        check_cpu,
        check_packages,
        lambda: check_model(model),
        lambda: [item for item in check_published() if item.name != f"model {model}"],
        lambda: check_backends(model),
        lambda: check_plans(load_settings().plans),
        check_avatars,
        check_cascade,
        lambda: check_faces(model),
        check_codecs,
        check_network,
        lambda: check_ports(port),
    )
    return [check for part in parts for check in part()]


def format_checks(checks: Iterable[Check]) -> str:
    """The findings as lines of text, each with what to do about it."""
    lines = []
    for check in checks:
        mark = {"ok": "ok  ", "note": "note", "warn": "WARN", "bad": "BAD "}[check.verdict]
        lines.append(f"{mark}  {check.name:<20} {check.found}")
        if check.remedy:
            lines.append(f"{'':<27}-> {check.remedy}")
    return "\n".join(lines) + "\n"


def run_doctor(*, as_json: bool = False, model: str = "bundled", port: int = DEFAULT_PORT) -> int:
    """Writes the findings to stdout; 0 if this machine can serve, else 1."""
    checks = examine(model, port)
    counts = {
        verdict: sum(check.verdict == verdict for check in checks) for verdict in get_args(Verdict)
    }
    can_serve = counts["bad"] == 0
    if as_json:
        report = {"can_serve": can_serve, "checks": [asdict(check) for check in checks]}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    else:
        sys.stdout.write(format_checks(checks))
        summary = "can serve" if can_serve else f"can't serve: {counts['bad']} to repair"
        sys.stdout.write(f"\nThis machine {summary}.\n")
    return 0 if can_serve else 1


def add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `lipwire doctor`."""
    parser.add_argument("--json", action="store_true", help="write JSON")
    parser.add_argument("--model", default="bundled", help="model name or folder")
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="HTTP port to look at (default: 8080)"
    )


def run(arguments: argparse.Namespace) -> int:
    """`lipwire doctor` with parsed arguments; returns the exit status."""
    return run_doctor(as_json=arguments.json, model=arguments.model, port=arguments.port)
