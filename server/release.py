"""Which release this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def server_version() -> str:
    """The installed version; "0+source" where the source tree runs uninstalled."""
    try:
        return version("lipwire")
    except PackageNotFoundError:
        return "0+source"
