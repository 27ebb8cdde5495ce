"""HTTPS: connections go to the address that was checked, and certificates are checked against the name."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.support.web import picture, web_server

from embedmill.catalog import ImageSource
from embedmill.spec import CatalogSpec
from embedmill.types import Rejection


def certificate(folder: Path, name: str) -> tuple[Path, ssl.SSLContext]:
    """A certificate that vouches for itself, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, private)
    return file, context


async def loopback(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def fetched(host: str, port: int) -> bytes | Rejection:
    fetch = {"allow": [f"127.0.0.1:{port}"], "attempts": 1, "timeout_s": 3.0}
    spec = CatalogSpec.model_validate({"source": "i.csv", "id": "id", "images": ".", "fetch": fetch})
    images = ImageSource(spec, root=Path(), store=None, resolve=loopback)
    found = images.fetch(pa.array([f"https://{host}:{port}/a"]), None)
    return found.rejected[0] if found.rejected else found.values[0].as_py()


@pytest.mark.parametrize("trusted", [True, False])
def test_a_certificate_counts_if_it_is_trusted_and_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    file, context = certificate(tmp_path, "images.internal")
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with web_server(context) as web:
        web.paths["/a"] = picture(b"A")
        good, other = fetched("images.internal", web.port), fetched("other.internal", web.port)
    assert isinstance(other, Rejection)
    assert "certificate" in other.detail.lower()
    assert (good == b"A") == trusted
