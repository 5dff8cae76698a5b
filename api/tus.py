"""The words of tus 1.0 (https://tus.io/protocols/resumable-upload): headers in, headers out.

`X-HTTP-Method-Override` is not honoured: what a request may do was decided by its real method.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from api.errors import TUS_VERSION
from jobs.problem import refuse
from jobs.tables import Upload

EXTENSIONS = "creation,checksum,expiration,termination"
ALGORITHMS = ("sha1", "sha256")  # the first is what tus asks of every server
MEDIA_TYPE = "application/offset+octet-stream"
MAX_METADATA = 4_096  # characters


@dataclass
class Checksum:
    """What the bytes of one request must hash to."""

    algorithm: str
    digest: bytes
    _hash: Any = field(init=False)

    def __post_init__(self) -> None:
        self._hash = hashlib.new(self.algorithm, usedforsecurity=False)

    def update(self, chunk: bytes) -> None:
        """Bytes of the request, in order."""
        self._hash.update(chunk)

    def verify(self) -> None:
        """Raises Refused (checksum_mismatch)."""
        if not hmac.compare_digest(self._hash.digest(), self.digest):
            found = base64.b64encode(self._hash.digest()).decode()
            raise refuse("checksum_mismatch", f"the bytes have {self.algorithm} {found}; none of them was kept")


def require_version(sent: str) -> None:
    """Raises Refused (tus_version) where a request does not speak tus 1.0."""
    if sent != TUS_VERSION:
        raise refuse("tus_version", f"header.tus-resumable: {sent[:40]!r}; legal: {TUS_VERSION}")


def number(name: str, value: str) -> int:
    """A header that holds a count of bytes. Raises Refused (header_invalid)."""
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        param = f"header.{name}"
        raise refuse("header_invalid", f"{param}: {value[:40]!r}; legal: a number of bytes", param=param)
    return int(value)


def metadata(sent: str) -> dict[str, str]:
    """`Upload-Metadata` as keys and decoded values. Raises Refused (header_invalid)."""
    found: dict[str, str] = {}
    param = "header.upload-metadata"
    if len(sent) > MAX_METADATA:
        raise refuse("header_invalid", f"{param}: more than {MAX_METADATA} characters", param=param)
    for pair in filter(None, map(str.strip, sent.split(","))):
        key, _, coded = pair.partition(" ")
        try:
            value = base64.b64decode(coded, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError, ValueError):
            detail = f"{param}: the value of {key[:40]!r} is not UTF-8 in base64"
            raise refuse("header_invalid", detail, param=param) from None
        if key in found or "\x00" in value or not key.isascii():
            raise refuse("header_invalid", f"{param}: {key[:40]!r} is there twice or holds U+0000", param=param)
        found[key] = value
    return found


def checksum(sent: str) -> Checksum | None:
    """`Upload-Checksum`, where it was sent. Raises Refused (header_invalid)."""
    if not sent:
        return None
    algorithm, _, coded = sent.partition(" ")
    try:
        made = Checksum(algorithm, base64.b64decode(coded, validate=True)) if algorithm in ALGORITHMS else None
    except (binascii.Error, ValueError):
        made = None
    if made is None or len(made.digest) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        param = "header.upload-checksum"
        legal = " or ".join(f"{name} BASE64" for name in ALGORITHMS)
        raise refuse("header_invalid", f"{param}: {sent[:120]!r}; legal: {legal}", param=param)
    return made


def headers(row: Upload | None = None) -> dict[str, str]:
    """What every answer carries; about an upload, where it stands."""
    made = {"Tus-Resumable": TUS_VERSION, "Cache-Control": "no-store"}
    if row is not None:
        made["Upload-Offset"] = str(row.received)
        if row.state == "open":
            made["Upload-Expires"] = formatdate(row.expires_at, usegmt=True)
    return made
