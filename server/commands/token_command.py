"""`lipwire token`: a token on standard output, and nothing else there."""

from __future__ import annotations

import argparse
from pathlib import Path

from server.access.auth import SCOPES, Tokens, parse_ttl
from server.access.token_secret import read_or_make_secrets
from server.config import load_settings


def add_token_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what `lipwire token` can be told."""
    parser.add_argument(
        "--scope",
        action="append",
        choices=SCOPES,
        help="what it allows, may be repeated; admin is everything (call)",
    )
    parser.add_argument("--ttl", default="1h", help="how long: 90s, 15m, 12h, 30d (1h)")
    parser.add_argument("--subject", default="", help="whom it is for")
    parser.add_argument("--config", type=Path, help="the server's TOML file")
    parser.add_argument("--token-secret-file", type=Path, help="the server's, where it has another")


def run_token(args: argparse.Namespace) -> int:
    """Runs `lipwire token`; the exit code.

    Raises:
        ConfigError: a time or a secret that cannot be used.
    """
    settings = load_settings(args.config, token_secret_file=args.token_secret_file)
    tokens = Tokens(read_or_make_secrets(settings.secret_path)[0])
    print(tokens.issue(args.scope or ["call"], parse_ttl(args.ttl), args.subject))  # noqa: T201
    return 0
