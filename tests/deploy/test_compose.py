"""compose.yaml and the files beside it, held to the server and to each other."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.config import ENVIRONMENT_PREFIX, Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]
GIVEN = {"PUBLIC_ADDRESS": "203.0.113.7"}
# The largest that a call's pictures take (docs/operations.md), and the calls of one address.
BYTES_A_CALL, CALLS = 37 << 20, 8


def interpolate(text: str, variables: dict[str, str]) -> str:
    """`text` with ${NAME}, ${NAME:-default} and ${NAME:?message} filled in, as Compose does."""
    inner = re.compile(r"\$\{(\w+)(?::([-?])([^{}]*))?\}")
    while found := inner.search(text):
        name, kind, other = found.groups()
        value = variables.get(name) or (other if kind == "-" else None)
        assert value is not None, f"{name} has neither value nor default"
        text = text[: found.start()] + value + text[found.end() :]
    return text


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """compose.yaml as it is with an address and nothing else set."""
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    parsed: dict[str, Any] = yaml.safe_load(interpolate(text, GIVEN))
    return parsed


@pytest.fixture
def settings(compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """What the server of compose.yaml runs with; the names of the image are in its own test."""
    (tmp_path / "turn_secret").write_text("north", encoding="utf-8")
    for name, value in compose["services"]["lipwire"]["environment"].items():
        monkeypatch.setenv(name, str(value).replace("/run/secrets", str(tmp_path)))
    return load_settings()


def test_only_settings_of_the_server_are_set(compose: dict[str, Any]) -> None:
    names = compose["services"]["lipwire"]["environment"]
    known = {f"{ENVIRONMENT_PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert names and set(names) <= known


def test_clients_are_told_of_the_public_address_and_of_the_turn_server(settings: Settings) -> None:
    assert settings.public_addresses == ("203.0.113.7",)
    assert settings.turn_urls[0] == "turn:203.0.113.7:3478"
    assert settings.turn_secret is not None and settings.turn_secret.get_secret_value() == "north"


def test_the_published_ports_are_those_of_image_and_coturn(compose: dict[str, Any]) -> None:
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    media = re.search(r"LIPWIRE_UDP_PORTS=([\d-]+)", image)
    assert media is not None
    assert f"{media[1]}:{media[1]}/udp" in compose["services"]["lipwire"]["ports"]
    port = _coturn()["listening-port"][0]
    assert compose["services"]["coturn"]["ports"] == [f"{port}:{port}/udp", f"{port}:{port}/tcp"]


def test_coturn_relays_to_the_server_alone(compose: dict[str, Any]) -> None:
    server = compose["services"]["lipwire"]["networks"]["default"]["ipv4_address"]
    coturn = _coturn()
    assert coturn["allowed-peer-ip"] == [server]
    denied = [tuple(map(ipaddress.ip_address, r.split("-"))) for r in coturn["denied-peer-ip"]]
    for address in map(ipaddress.ip_address, ("127.0.0.1", "10.0.0.1", "203.0.113.7", "::1")):
        assert any(
            first.version == address.version and first <= address <= last  # type: ignore[operator]
            for first, last in denied
        ), address
    assert "use-auth-secret" in coturn


def test_addresses_lie_in_the_network_and_its_gateway_may_speak_for_others(
    compose: dict[str, Any], settings: Settings
) -> None:
    (network,) = compose["networks"]["default"]["ipam"]["config"]
    assert settings.trusted_proxies == (network["gateway"],)
    subnet = ipaddress.ip_network(network["subnet"])
    for service in ("lipwire", "coturn"):
        address = compose["services"][service]["networks"]["default"]["ipv4_address"]
        assert ipaddress.ip_address(address) in subnet


def test_calls_have_time_to_end_and_memory_for_their_pictures(
    compose: dict[str, Any], settings: Settings
) -> None:
    server = compose["services"]["lipwire"]
    assert float(server["stop_grace_period"].removesuffix("s")) > settings.drain_timeout_s
    assert int(server["shm_size"].removesuffix("m")) << 20 >= BYTES_A_CALL * CALLS


def test_services_are_unprivileged_and_come_back(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        assert service["restart"] == "unless-stopped", name
        assert "no-new-privileges:true" in service["security_opt"], name


def test_secrets_come_from_files_that_git_and_the_image_leave_out(compose: dict[str, Any]) -> None:
    used = {name for service in compose["services"].values() for name in service.get("secrets", ())}
    assert used == set(compose["secrets"])
    folders = {str(Path(secret["file"]).parent) for secret in compose["secrets"].values()}
    assert folders == {"deploy/secrets"}
    assert "/deploy/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "*" in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def test_every_mounted_file_exists(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists(), volume


def test_prometheus_reads_the_server_with_its_token(compose: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"lipwire:{Settings().port}"]}]
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_token"
    assert "metrics_token" in compose["services"]["prometheus"]["secrets"]
    for name in config["rule_files"]:
        assert (ROOT / "deploy/prometheus" / name).exists()


def _coturn() -> dict[str, list[str]]:
    """Values of each option of coturn's configuration; [""] where it takes none."""
    found: dict[str, list[str]] = {}
    text = (ROOT / "deploy/coturn/turnserver.conf").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found
