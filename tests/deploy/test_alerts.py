"""The alerts, held to the metrics, to their tests and to what the documents say of each."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.promql import check

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
RULE_TESTS = RULES.with_name("alerts_test.yml")


def _read(path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return parsed


def _alerts() -> list[dict[str, Any]]:
    return [rule for group in _read(RULES)["groups"] for rule in group["rules"]]


def test_every_alert_asks_for_what_a_server_exposes() -> None:
    for alert in _alerts():
        check(alert["expr"])


def test_every_alert_has_a_severity_a_sentence_and_a_paragraph_on_what_to_do() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    explained = set(re.findall(r"^\*\*`(Lipwire\w+)`", text, re.MULTILINE))
    assert explained == {alert["alert"] for alert in _alerts()}
    for alert in _alerts():
        assert alert["labels"]["severity"] in {"critical", "warning", "info"}
        assert "{{ $labels.instance }}" in alert["annotations"]["summary"]


def test_every_alert_is_seen_to_fire_in_a_test_of_promtool() -> None:
    fired = {
        case["alertname"]
        for test in _read(RULE_TESTS)["tests"]
        for case in test["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert fired == {alert["alert"] for alert in _alerts()}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_promtool_sees_the_alerts_fire_and_stay_silent() -> None:
    done = subprocess.run(
        ["promtool", "test", "rules", str(RULE_TESTS)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
