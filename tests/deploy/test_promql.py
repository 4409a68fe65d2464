"""The reader of queries: it sees what it is to refuse."""

from __future__ import annotations

import pytest

from tests.deploy.promql import asked_by, check


def test_names_labels_and_values_are_found_wherever_they_stand() -> None:
    (lag, up) = asked_by(
        'histogram_quantile(0.9, sum by (le, gateway) (rate(lag_bucket{stage=~"a|b"}[5m]))) > 0.1'
        " and up"
    )
    assert lag.name == "lag_bucket" and lag.labels == {"le", "gateway", "stage"}
    assert lag.values == {"a", "b"}
    assert up.name == "up" and not up.labels


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("lipwire_session", "lipwire_session in"),
        ('lipwire_frames_total{colour="red"}', "colour"),
        ("sum by (code) (lipwire_sessions)", "code"),
        ('lipwire_stage_seconds_bucket{stage="totl"}', "totl"),
    ],
)
def test_what_no_server_exposes_is_refused(expression: str, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check(expression)


def test_what_is_no_promql_is_refused() -> None:
    with pytest.raises(ValueError, match="unclosed"):
        check("sum(rate(lipwire_frames_total[5m])")
