"""Where the secrets behind the tokens lie: the environment, or a file only its user can read.

Several stand in it with blanks or line ends between them: tokens are made with the first, and those
made with the others are good until they expire, so that a secret can be replaced without ending
everybody's tokens at once.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from engine.errors import ConfigError

VARIABLE = "LIPWIRE_TOKEN_SECRET"
SECRET_BYTES = 32
MAX_SECRETS = 4


def default_secret_path() -> Path:
    """In the user's configuration folder (XDG)."""
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "lipwire" / "token-secret"


def read_or_make_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets of the environment, or of the file, which is made where there is none.

    Returns:
        That of today first, then those on their way out.

    Raises:
        ConfigError: the file can be read by others, cannot be read, or cannot be made; or there
            are more than MAX_SECRETS, or none.
    """
    from_environment = os.environ.get(VARIABLE)
    if from_environment:
        return _split(from_environment.encode(), VARIABLE)
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Whole under another name first: a server that starts beside this one reads no half.
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(SECRET_BYTES) + "\n")
            os.link(part, path)
        except FileExistsError:
            pass  # the other server was first
        finally:
            part.unlink()
        return _read(path)
    except OSError as error:
        raise ConfigError(
            f"expected to keep the token secret in {path}: {error.strerror}; "
            f"set token_secret_file, or {VARIABLE}"
        ) from error


def _read(path: Path) -> tuple[bytes, ...]:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read(4096)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(
            f"expected a token secret in {path}: {error.strerror}; "
            f"set token_secret_file, or {VARIABLE}"
        ) from error
    if mode & 0o077:
        raise ConfigError(
            f"expected {path} to be readable for its user only, it has mode {mode:o}: "
            f"chmod 600 {path}"
        )
    return _split(text, path)


def _split(text: bytes, where: Path | str) -> tuple[bytes, ...]:
    found = tuple(text.split())
    if not 1 <= len(found) <= MAX_SECRETS:
        raise ConfigError(
            f"expected 1 to {MAX_SECRETS} token secrets in {where}, blanks between them, "
            f"got {len(found)}"
        )
    return found
