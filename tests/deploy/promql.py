"""What a PromQL expression asks for, to hold it to what a server exposes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser

from server.metrics.counters import Metrics
from tests.exposition import exposed_labels, full_page

DOCS = Path(__file__).resolve().parents[2] / "docs"
# Of Prometheus itself, of every scraped server, and of several gateways.
SCRAPED = {"instance", "job", "gateway", "le"}
CHILDREN = ("lhs", "rhs", "expr", "vector_selector")


@dataclass(frozen=True, slots=True)
class Asked:
    """One series that an expression reads.

    Attributes:
        labels: by which it is chosen or summed.
        values: of labels, that it is chosen by.
    """

    name: str
    labels: frozenset[str]
    values: frozenset[str]


def asked_by(expression: str) -> list[Asked]:
    """The series of an expression.

    Raises:
        ValueError: it is no PromQL.
    """
    return list(_walk(promql_parser.parse(expression), frozenset()))


def _walk(node: Any, summed_by: frozenset[str]) -> Iterator[Asked]:
    if isinstance(node, promql_parser.VectorSelector):
        chosen = {matcher.name: matcher.value for matcher in node.matchers.matchers}
        words = {word for value in chosen.values() for word in re.findall(r"\w+", value)}
        yield Asked(node.name or "", summed_by | frozenset(chosen), frozenset(words))
        return
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
        summed_by |= frozenset(node.modifier.labels)
    for name in CHILDREN:
        child = getattr(node, name, None)
        if child is not None:
            yield from _walk(child, summed_by)
    for child in getattr(node, "args", ()):
        yield from _walk(child, summed_by)


def check(expression: str) -> set[str]:
    """The names that an expression reads, all of them a server's, with labels that they have.

    Raises:
        ValueError: it is no PromQL.
        AssertionError: a name, label or value that no server exposes.
    """
    exposed, words = _known_labels(), _known_words()
    asked = asked_by(expression)
    for series in asked:
        assert series.name in exposed, f"{series.name} in {expression}"
        unknown = series.labels - exposed[series.name] - SCRAPED
        assert not unknown, f"{series.name} has no {sorted(unknown)}: {expression}"
        assert series.values <= words, f"{sorted(series.values - words)} in {expression}"
    return {series.name for series in asked}


@cache
def _known_labels() -> dict[str, set[str]]:
    """Labels of all that can be asked for; Prometheus itself adds `up`."""
    return exposed_labels() | {"up": set()}


@cache
def _known_words() -> set[str]:
    """All that labels hold: what a fresh server shows, and what the documents name."""
    text = "".join(
        (DOCS / name).read_text(encoding="utf-8") for name in ("operations.md", "protocol.md")
    )
    shown = full_page() + Metrics().render().decode()
    return set(re.findall(r'="(\w+)"', shown)) | set(re.findall(r"`(\w+)`", text)) | {"lipwire"}
