"""What errors repeat."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.quoting import QUOTED_CHARACTERS, quoted


def test_short_words_are_quoted_and_long_ones_counted() -> None:
    assert quoted("opera") == "'opera'"
    assert quoted("x" * QUOTED_CHARACTERS) == f"'{'x' * QUOTED_CHARACTERS}'"
    assert quoted("x" * (QUOTED_CHARACTERS + 1)) == "25 characters"
    assert quoted({"a": "x" * 40}).endswith("characters")


@given(st.text(min_size=QUOTED_CHARACTERS + 1))
def test_no_text_longer_than_that_is_repeated(text: str) -> None:
    assert quoted(text) == f"{len(text)} characters"


@given(st.text())
def test_a_quotation_is_one_line_of_ascii(text: str) -> None:
    assert quoted(text).isascii() and quoted(text).isprintable()
