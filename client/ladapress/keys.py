"""Public keys that sign artifacts: Ed25519, named by their JWK thumbprint (RFC 7638), and how one vouches for the next.

What a key file or a service calls a key is never believed: its name is computed from the key itself.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from ladapress.errors import LadapressError

LEGAL = "an Ed25519 public key as PEM, as JWK, or a JWK Set"


@dataclass(frozen=True)
class PublicKey:
    """32 bytes, and what was said about them."""

    raw: bytes
    endorsed_by: str | None = None  # kid
    endorsement: str | None = None  # base64url

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> PublicKey:
        """Raises ValueError: not an Ed25519 public key (RFC 8037)."""
        if (jwk.get("kty"), jwk.get("crv")) != ("OKP", "Ed25519") or "d" in jwk:
            raise ValueError(f"a JWK must have kty OKP, crv Ed25519 and no private part, not {sorted(jwk)}")
        raw = unbase64url(jwk.get("x"), 32)
        said = (jwk.get("endorsed_by"), jwk.get("endorsement"))
        return cls(raw, *(text if isinstance(text, str) else None for text in said))

    @property
    def x(self) -> str:
        """The key in base64url."""
        return base64url(self.raw)

    @property
    def kid(self) -> str:
        """RFC 7638."""
        jwk = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": self.x}, separators=(",", ":"))
        return base64url(hashlib.sha256(jwk.encode()).digest())

    def signed(self, signature: bytes, message: bytes) -> bool:
        """Whether the holder of this key signed `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


Keys = dict[str, PublicKey]
"""Keys by kid."""


def key_set(jwks: Iterable[Mapping[str, Any]]) -> Keys:
    """The Ed25519 keys among JWKs; those of other kinds are left out, as RFC 7517 section 5 asks for."""
    found: Keys = {}
    for jwk in jwks:
        try:
            key = PublicKey.from_jwk(jwk)
        except ValueError:
            continue
        found[key.kid] = key
    return found


def read_key_file(path: Path) -> Keys:
    """The keys in a file. Raises LadapressError (usage): it holds none."""
    try:
        content = path.read_bytes()
        found = _from_json(content) if content.lstrip().startswith(b"{") else _from_pem(content)
    except OSError as error:
        raise LadapressError.local("usage", f"--key {path}: {error.strerror}; must be {LEGAL}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm, RecursionError) as error:
        raise LadapressError.local("usage", f"--key {path}: {error}; must be {LEGAL}") from None
    if not found:
        raise LadapressError.local("usage", f"--key {path}: no Ed25519 key is in it; must be {LEGAL}")
    return found


def chain(pinned: Keys, published: Keys, kid: str) -> list[PublicKey] | None:
    """The keys from `kid` back to one that a pinned key endorsed, newest first; None where the chain breaks.

    Args:
        pinned: keys that are trusted.
        published: what the service says; nothing of it is believed without a signature.
    """
    found: list[PublicKey] = []
    while kid not in pinned:
        key = published.get(kid)
        if key is None or key in found:
            return None
        giver = pinned.get(key.endorsed_by or "") or published.get(key.endorsed_by or "")
        try:
            if giver is None or not giver.signed(unbase64url(key.endorsement, 64), endorsement(kid)):
                return None
        except ValueError:
            return None
        found.append(key)
        kid = giver.kid
    return found


def endorsement(kid: str) -> bytes:
    """The line that a key signs to say that another one speaks for the service, too. It is no JSON, so no manifest."""
    return f"ladapress-endorsement-1 {kid}\n".encode()


def base64url(raw: bytes) -> str:
    """RFC 4648 section 5, without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unbase64url(text: object, size: int) -> bytes:
    """`size` bytes from their one spelling. Raises ValueError: another alphabet, size, padding or stray last bits."""
    try:
        raw = base64.urlsafe_b64decode(f"{text}{'=' * (-len(str(text)) % 4)}".encode("ascii"))
    except (binascii.Error, UnicodeEncodeError):
        raw = b""
    if len(raw) != size or base64url(raw) != text:
        raise ValueError(f"must be {size} bytes in base64url without padding, not {str(text)[:100]!r}")
    return raw


def _from_json(content: bytes) -> Keys:
    said = json.loads(content)
    if "keys" in said:
        return key_set(said["keys"])
    key = PublicKey.from_jwk(said)
    return {key.kid: key}


def _from_pem(content: bytes) -> Keys:
    key = load_pem_public_key(content)
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"it holds a {type(key).__name__}")  # noqa: TRY004  # the file is wrong, not a type of ours
    one = PublicKey(key.public_bytes_raw())
    return {one.kid: one}
