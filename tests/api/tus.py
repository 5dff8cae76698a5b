"""A hand-made tus client for tests: every request is one line, so that each may be wrong in its own way."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from httpx2 import Client, Response

TUS = {"Tus-Resumable": "1.0.0"}
OCTETS = "application/offset+octet-stream"


def metadata(**pairs: str) -> str:
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())


def create(client: Client, content: bytes, /, headers: dict[str, str] | None = None, **pairs: str) -> Response:
    """Begin the upload of a CSV named rows.csv, unless `pairs` say otherwise; an empty value leaves one out."""
    pairs = {"purpose": "dataset", "filename": "rows.csv", "sha256": hashlib.sha256(content).hexdigest(), **pairs}
    kept = {key: value for key, value in pairs.items() if value}
    sent = {**TUS, "Upload-Length": str(len(content)), "Upload-Metadata": metadata(**kept), **(headers or {})}
    return client.post("/v1/uploads", headers=sent)


def made(client: Client, content: bytes, **pairs: str) -> str:
    """The path of a new upload."""
    answer = create(client, content, **pairs)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


def patch(client: Client, path: str, offset: int, content: Any, **headers: str) -> Response:
    sent = {**TUS, "Upload-Offset": str(offset), "Content-Type": OCTETS, **headers}
    return client.patch(path, content=content, headers=sent)


def stands(client: Client, path: str) -> int:
    """The offset, as tus asks for it."""
    answer = client.head(path, headers=TUS)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    return int(answer.headers["upload-offset"])


def checksum(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, content).digest()).decode()}"
