"""The connection of a webhook: to an address that was judged, under the name that was asked for."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from jobs.webhooks.addresses import Guard
from tests.jobs.hooked import local
from tests.worker.receiver import receiver
from worker.sender import Sender


def certified(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of this name, and a client's that believes it."""
    key, day = ec.generate_private_key(ec.SECP256R1()), timedelta(days=1)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(datetime.now(UTC) - day).not_valid_after(datetime.now(UTC) + day)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    pem = made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.pem").write_bytes(private + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem")
    return server, ssl.create_default_context(cadata=pem.decode())


def test_the_connection_goes_to_the_judged_address_and_keeps_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name is looked up once: what it means at a second look plays no part. TLS checks the name, not the number."""
    serving, trusting = certified(tmp_path, "hooks.example")
    asked = []

    def rebinding(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(asked) % 2 else "127.0.0.2", port))]

    with receiver(tls=serving) as there:
        port = int(there.url.rpartition(":")[2])
        settings = local(webhook_ports=(port,), data_dir=tmp_path)
        connect_to, addresses = socket.create_connection, []

        def connection(address: tuple[str, int], *rest: object, **more: object) -> socket.socket:
            addresses.append(address[0])
            with monkeypatch.context() as real:
                real.setattr(socket, "getaddrinfo", looked_up)
                return connect_to(address, *rest, **more)  # type: ignore[arg-type]

        looked_up = socket.getaddrinfo
        monkeypatch.setattr(socket, "create_connection", connection)
        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        found = Sender(Guard.of(settings), 5, trusting).post(
            f"https://hooks.example:{port}/ok", {"webhook-id": "msg_1"}, b"{}"
        )
        assert (found.status_code, found.error) == (200, None)
        assert (asked, addresses) == (["hooks.example"], ["127.0.0.1"])
        assert there.got[0].headers["host"] == f"hooks.example:{port}"
        for authorities, host in ((None, "hooks.example"), (trusting, "others.example")):
            asked.clear()
            refused = Sender(Guard.of(settings), 5, authorities).post(f"https://{host}:{port}/ok", {}, b"{}")
            assert "certificate verify failed" in (refused.error or "")
    assert len(there.got) == 1
