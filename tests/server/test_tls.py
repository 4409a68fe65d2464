"""https by two flags."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI

from engine.errors import ConfigError
from server.config import Settings
from server.http_server import http_server
from server.serving import address_of, bind


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lipwire test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_path, key_path


def test_requests_are_answered_over_https_and_not_in_the_clear(
    certificate: tuple[Path, Path],
) -> None:
    app = FastAPI()

    @app.get("/")
    async def hello() -> str:
        return "hello"

    async def main() -> None:
        server = http_server(app, Settings(tls_cert=certificate[0], tls_key=certificate[1]))
        with bind("127.0.0.1", 0) as sock:
            assert address_of(sock, secure=True).startswith("https://localhost:")
            port = sock.getsockname()[1]
            serving = asyncio.create_task(server.serve(sockets=[sock]))
            trusted = ssl.create_default_context(cafile=str(certificate[0]))
            async with httpx.AsyncClient(verify=trusted) as client:
                assert (await client.get(f"https://127.0.0.1:{port}/")).json() == "hello"
                with pytest.raises(httpx.TransportError):
                    await client.get(f"http://127.0.0.1:{port}/")
            server.should_exit = True
            await serving

    asyncio.run(main())


def test_files_that_are_no_certificate_are_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nothing")
    settings = Settings(tls_cert=tmp_path / "cert.pem", tls_key=tmp_path / "absent.pem")
    with pytest.raises(ConfigError, match=r"certificate chain in .*cert\.pem"):
        http_server(FastAPI(), settings)
