"""Every test of the server is watched: what it starts must be gone when it ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.leaks import nothing_left


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    with nothing_left():
        yield
