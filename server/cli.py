"""The command `lipwire`."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.errors import LipwireError

SERVE_EXAMPLE = """examples:
  lipwire serve
  lipwire serve --port 9000 --max-sessions 4
  lipwire serve --config lipwire.toml
  LIPWIRE_BACKEND=onnxruntime lipwire serve
"""
RENDER_EXAMPLE = """example:
  lipwire render --video in.mp4 --audio speech.wav --out out.mp4
"""
FETCH_EXAMPLE = """examples:
  lipwire fetch latentsync-1.5
  lipwire fetch latentsync-1.6 --dir /data/models --precision f32
  HF_ENDPOINT=https://mirror.example lipwire fetch latentsync-1.5 --json
"""
AVATAR_EXAMPLE = """examples:
  lipwire avatar list
  lipwire avatar list --json --dir ~/avatars
  lipwire avatar add clip.mp4 --name anna
  lipwire avatar remove anna
"""
TOKEN_EXAMPLE = """examples:
  lipwire token --scope call --ttl 1h
  lipwire token --scope call --scope avatars:write --ttl 30d --subject alice
"""
PLANS_EXAMPLE = """examples:
  lipwire plans list
  lipwire plans prune --max-mb 500
  lipwire plans prune --max-mb 0 --json
  lipwire plans build --plans-dir /opt/plans
"""
EXPORT_EXAMPLE = """examples:
  lipwire export --model bundled --target openvino
  lipwire export --model latentsync-1.5 --target onnx --component unet --precision f16
  lipwire export --model latentsync-1.5 --target onnx --hop 2 --batch 1,2,4,8 --out exports
"""
DOCTOR_EXAMPLE = """example:
  lipwire doctor --json
"""
# What `lipwire bench` runs: modules `benchmarks.NAME` with a `main(arguments) -> exit status`.
BENCHES = {
    "engine": "what a hop costs: stages, modes, codecs, batches",
    "quality": "seams, sync, drift and distance by mode, hop and steps",
    "latency": "glass to glass over WebRTC",
    "load": "calls at once, and what one more does to them",
    "audio_features": "streamed audio features against those of a recording",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in given if not word.startswith("-")), None)
    arguments = _parser(command).parse_args(given)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except (LipwireError, OSError) as error:
        print(f"lipwire: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 130


def _parser(command: str | None) -> argparse.ArgumentParser:
    """The parser; only the arguments of `command` cost the import of what runs it."""
    parser = argparse.ArgumentParser(
        prog="lipwire",
        description="Real-time lip sync over WebRTC.",
        epilog=SERVE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    serve = _add(commands, "serve", "run the server and its page", SERVE_EXAMPLE)
    if command == "serve":
        from server.run_arguments import add_run_arguments

        _add_serve_arguments(serve)
        add_run_arguments(serve)
    serve.set_defaults(run=_run_serve)

    render = _add(commands, "render", "lip-sync a file", RENDER_EXAMPLE)
    if command == "render":
        from server.commands.render import add_render_arguments, run_render

        add_render_arguments(render)
        render.set_defaults(run=run_render)

    fetch = _add(commands, "fetch", "bring a published model", FETCH_EXAMPLE)
    if command == "fetch":
        from server.commands.fetch import add_fetch_arguments, run_fetch

        add_fetch_arguments(fetch)
        fetch.set_defaults(run=run_fetch)

    avatar = _add(commands, "avatar", "list, add and remove avatars", AVATAR_EXAMPLE)
    if command == "avatar":
        from server.commands.avatar_command import add_avatar_arguments

        actions = avatar.add_subparsers(dest="action", metavar="action", required=True)
        add_avatar_arguments(actions, AVATAR_EXAMPLE)

    plans = _add(commands, "plans", "compiled graphs: list, prune, build ahead", PLANS_EXAMPLE)
    if command == "plans":
        from server.commands.plans import add_plans_arguments, run_plans

        add_plans_arguments(plans)
        plans.set_defaults(run=run_plans)

    token = _add(commands, "token", "make a token for callers", TOKEN_EXAMPLE)
    if command == "token":
        from server.commands.token_command import add_token_arguments, run_token

        add_token_arguments(token)
        token.set_defaults(run=run_token)

    doctor = _add(commands, "doctor", "say what this machine can run", DOCTOR_EXAMPLE)
    if command == "doctor":
        from server.commands.doctor import add_doctor_arguments
        from server.commands.doctor import run as run_doctor

        add_doctor_arguments(doctor)
        doctor.set_defaults(run=run_doctor)

    export = _add(commands, "export", "write a model's networks for a runtime", EXPORT_EXAMPLE)
    if command == "export":
        exporter = _exporter()
        exporter.add_export_arguments(export)
        export.set_defaults(run=exporter.run_export)

    benches = _benches() if command == "bench" else {}
    listed = "".join(f"  {name:9} {what}\n" for name, what in benches.items())
    bench = _add(
        commands,
        "bench",
        "measure, and write JSON and a report",
        f"benches:\n{listed}\nexamples:\n"
        "  lipwire bench quality --model bundled --out report\n"
        "  lipwire bench latency --help\n",
    )
    bench.add_argument("bench", choices=list(benches), metavar="NAME", help="which one")
    bench.add_argument("arguments", nargs=argparse.REMAINDER, help="its own, see NAME --help")
    bench.set_defaults(run=_run_bench)
    return parser


def _benches() -> dict[str, str]:
    """The benches that are installed: what users run does not need them."""
    if importlib.util.find_spec("benchmarks") is None:
        return {}
    found = importlib.util.find_spec
    return {name: what for name, what in BENCHES.items() if found(f"benchmarks.{name}")}


def _exporter() -> Any:
    """The module that exports: by name, because the server knows nothing of it."""
    return importlib.import_module("export.command")


def _run_bench(arguments: argparse.Namespace) -> int:
    try:
        module = importlib.import_module(f"benchmarks.{arguments.bench}")
    except ModuleNotFoundError as error:
        raise LipwireError(
            f'bench {arguments.bench}: {error}; pip install -e ".[bench]"'
        ) from error
    main: Callable[[Sequence[str]], int] = module.main
    return main(arguments.arguments)


def _add(commands: Any, name: str, summary: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, help="a TOML file with settings")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (8080)")
    parser.add_argument(
        "--auth",
        choices=["auto", "on"],
        help="need tokens: everywhere but on loopback (auto), or there too, behind a proxy (on)",
    )
    parser.add_argument("--tls-cert", type=Path, help="certificate chain, PEM: serve https")
    parser.add_argument("--tls-key", type=Path, help="its key, PEM")
    parser.add_argument("--udp-ports", metavar="FIRST-LAST", help="of media (any that is free)")
    parser.add_argument(
        "--media-address",
        dest="media_addresses",
        action="append",
        help="of this machine, for media (all but loopback)",
    )
    parser.add_argument(
        "--public-address",
        dest="public_addresses",
        action="append",
        help="where clients reach this machine's media behind one-to-one NAT",
    )
    parser.add_argument("--token-secret-file", type=Path, help="what tokens are signed with")
    parser.add_argument("--model", help="name or folder of the model (bundled)")
    parser.add_argument(
        "--backend", help="auto, openvino, onnxruntime, torch, tensorrt or passthrough (auto)"
    )
    parser.add_argument(
        "--no-plan-cache",
        dest="plan_cache",
        action="store_const",
        const=False,
        help="compile at every start, keep nothing",
    )
    parser.add_argument(
        "--plans",
        dest="plan_build",
        choices=["auto", "wait", "background"],
        help="without a kept plan: wait for it, serve on the next best backend meanwhile, or "
        "wait only where that does not take long (auto)",
    )
    parser.add_argument("--plans-dir", type=Path, help="where compiled graphs are kept")
    parser.add_argument("--hop-frames", type=int, help="new frames a call (the model's own)")
    parser.add_argument(
        "--max-sessions", type=int, help="calls at once (what the machine is measured to hold)"
    )
    parser.add_argument(
        "--gateways", type=int, help="processes that hold the calls (1), 0: as the engine can feed"
    )
    parser.add_argument(
        "--no-calibration",
        dest="calibrate",
        action="store_const",
        const=False,
        help="measure nothing at start: --max-sessions calls, whatever the machine holds",
    )
    parser.add_argument(
        "--avatars", dest="avatar_dirs", action="append", type=Path, help="a folder of avatars"
    )
    parser.add_argument("--log-format", choices=["text", "json"], help="of the log (text)")
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"])


def _run_serve(arguments: argparse.Namespace) -> int:
    from server.config import Settings, load_settings
    from server.serving import serve

    given = vars(arguments)
    given = {name: given[name] for name in Settings.model_fields if name in given}
    settings = load_settings(arguments.config, **given)

    def on_ready(address: str) -> None:
        print(f"Lipwire is ready: {address}", flush=True)  # noqa: T201
        if settings.needs_tokens:
            print(  # noqa: T201
                "Callers need a token: lipwire token --scope call --ttl 1h\n"
                f"The page takes it from its address: {address}/#token=TOKEN",
                flush=True,
            )

    serve(settings, on_ready)
    return 0


if __name__ == "__main__":
    sys.exit(main())
