"""Artifacts as a service delivers them, and services that say whatever keys a test wants."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
from ladapress import Client

from jobs.signing import SigningKey

URL = "http://service.example"
PLAIN = {
    "model.onnx": bytes(range(256)) * 4,
    "pytorch/load.py": b"raise SystemExit('an artifact was run')\n",
    "report.json": b'{"retention": 0.99}\n',
    "verify.py": b"raise SystemExit('an artifact was run')\n",
}


def manifest(files: Mapping[str, bytes], **fields: Any) -> bytes:
    listed = {path: {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()} for path, body in files.items()}
    return (json.dumps({"version": 1, "files": listed, **fields}, indent=1) + "\n").encode()


def sealed(files: Mapping[str, bytes], key: SigningKey) -> dict[str, bytes]:
    """Manifest and signature of some files."""
    listed = manifest(files)
    return {"manifest.json": listed, "signature.json": key.signature_file(listed)}


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """These files and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    for path, body in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)
    return folder


def artifact(folder: Path, key: SigningKey, files: Mapping[str, bytes] = PLAIN) -> Path:
    """An artifact that this key signed."""
    return write(folder, {**files, **sealed(files, key)})


def jwk(key: SigningKey, by: SigningKey | None = None, **fields: Any) -> dict[str, Any]:
    """A key as a service publishes it, endorsed `by` another."""
    endorsed = {"endorsed_by": by and by.kid, "endorsement": by and by.endorse(key.kid)}
    return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "x": key.x, "kid": key.kid, **endorsed, **fields}


def publishing(*keys: dict[str, Any]) -> Client:
    """A client of a service that publishes these keys and does nothing else."""
    return answering(lambda _: httpx2.Response(200, json={"keys": list(keys)}))


def absent() -> Client:
    """A client of a service that is not there."""

    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    return answering(refuse)


def answering(answer: Callable[[httpx2.Request], httpx2.Response]) -> Client:
    return Client(URL, handler=httpx2.MockTransport(answer), patience_s=0.1)
