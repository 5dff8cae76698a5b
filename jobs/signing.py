"""The service's signing key, an Ed25519 pair (RFC 8032) in one PEM file, and what it signs (docs/decisions/0012).

Two things are signed, and neither can be taken for the other: the bytes of a `manifest.json`, which is a JSON object,
and a line that endorses another key, which is none.
"""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from jobs.secret_file import read_or_create

ALGORITHM = "Ed25519"


@dataclass(frozen=True)
class SigningKey:
    """A private key. Its text never shows it."""

    private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def fresh(cls) -> SigningKey:
        """A key that nobody has seen."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, path: Path) -> SigningKey:
        """The key in a file.

        Raises:
            ValueError: the file holds something else.
            OSError: it cannot be read.
        """
        return cls._parse(path.read_bytes(), path)

    @classmethod
    def load_or_create(cls, path: Path) -> SigningKey:
        """As `load`; where the file does not exist, a fresh key is written to it (mode 0600)."""
        return cls._parse(read_or_create(path, lambda: cls.fresh().pem()).encode(), path)

    @classmethod
    def _parse(cls, pem: bytes, path: Path) -> SigningKey:
        with suppress(ValueError, TypeError, UnsupportedAlgorithm):
            key = load_pem_private_key(pem, password=None)
            if isinstance(key, Ed25519PrivateKey):
                return cls(key)
        raise ValueError(f"{path} must hold an Ed25519 private key, PEM (PKCS#8), without a password")

    def pem(self) -> str:
        """The private key as the file holds it."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def x(self) -> str:
        """The public key: its 32 bytes in base64url, as a JWK has them (RFC 8037)."""
        return base64url(self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))

    @property
    def kid(self) -> str:
        """The key's name: `thumbprint` of `x`."""
        return thumbprint(self.x)

    def signature_file(self, manifest: bytes) -> bytes:
        """The text of `signature.json` for the bytes of a `manifest.json`: four fields in this order and spelling."""
        signed = base64url(self.private.sign(manifest))
        body = {"version": 1, "algorithm": ALGORITHM, "key_id": self.kid, "signature": signed}
        return (json.dumps(body, indent=1) + "\n").encode()

    def endorse(self, kid: str) -> str:
        """The signature by which this key says that `kid` speaks for the service, too."""
        return base64url(self.private.sign(endorsement(kid)))


def endorsement(kid: str) -> bytes:
    """The line that endorses a key."""
    return f"ladapress-endorsement-1 {kid}\n".encode()


def thumbprint(x: str) -> str:
    """RFC 7638 of an Ed25519 public key: sha256 over the required members of its JWK, by name, without spaces."""
    jwk = json.dumps({"crv": ALGORITHM, "kty": "OKP", "x": x}, separators=(",", ":"))
    return base64url(hashlib.sha256(jwk.encode()).digest())


def base64url(raw: bytes) -> str:
    """RFC 4648 section 5, without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
