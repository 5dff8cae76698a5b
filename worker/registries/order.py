"""What a push is told, what it answers, and what can go wrong: for every kind of registry."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from pydantic import BaseModel, ConfigDict

TIMEOUT = httpx2.Timeout(60, connect=10)  # of one read or write, not of a file
TRANSIENT = {408, 409, 412, 425, 429}  # and 5xx: the same request may succeed later
QUOTED = 300  # characters of what a registry says
CHUNK = 1 << 20


class File(BaseModel):
    """A file of the artifact: its path there, and the blob that holds its bytes."""

    model_config = ConfigDict(frozen=True)

    path: str
    blob: Path
    size: int
    sha256: str


class Order(BaseModel):
    """One push, as it comes over the pipe: `token` is a secret and is not repeated in any answer."""

    model_config = ConfigDict(frozen=True)

    kind: str
    url: str
    token: str | None
    username: str | None
    private: bool
    experiment: str
    to: str
    revision: str | None
    alias: str | None
    artifact_id: str
    files: tuple[File, ...]
    figures: dict[str, float]  # of the artifact's report, for registries that keep metrics

    def content(self) -> str:
        """sha256, hex, of all paths and hashes: two artifacts with the same one are the same to the byte."""
        lines = "".join(f"{file.sha256} {file.path}\n" for file in sorted(self.files, key=lambda file: file.path))
        return hashlib.sha256(lines.encode()).hexdigest()


class Pushed(BaseModel):
    """Where the artifact lies now. `unchanged`: it was there already, and nothing was added."""

    url: str
    commit: str | None = None
    version: str | None = None
    unchanged: bool


class PushFailed(Exception):
    """A push that went wrong: code and detail of its problem."""

    def __init__(self, code: str, detail: str, *, retryable: bool = False) -> None:
        super().__init__(detail)
        self.code, self.detail, self.retryable = code, detail, retryable


def check(files: tuple[File, ...]) -> None:
    """Raises PushFailed (artifact_damaged) where a blob is not what was published: it must not go out as that."""
    for file in files:
        try:
            with file.blob.open("rb") as blob:
                found = hashlib.file_digest(blob, "sha256").hexdigest()
        except FileNotFoundError:
            found = "nothing"
        if found != file.sha256:
            raise PushFailed("artifact_damaged", f"{file.path} must have sha256 {file.sha256}; the store has {found}")


def failure(error: Exception) -> PushFailed:
    """What an exception of a library means. Its own text is left out: it may hold signed addresses of a storage."""
    for each in _chain(error):
        if isinstance(each, PushFailed):
            return each
        response = getattr(each, "response", None)
        if isinstance(response, httpx2.Response):
            return answered(response)
        if isinstance(each, httpx2.TransportError):
            detail = f"the registry does not answer ({type(each).__name__})"
            return PushFailed("registry_unreachable", detail, retryable=True)
    return PushFailed("internal", f"the push failed with {type(error).__name__}")


def answered(response: httpx2.Response) -> PushFailed:
    """What a status means: 5xx and a few others may pass, the rest will not."""
    status, said = response.status_code, _said(response)
    detail = f"the registry answered {status}" + (f": {said}" if said else "")
    if status in TRANSIENT or status >= 500:
        return PushFailed("registry_unreachable", detail, retryable=True)
    return PushFailed("registry_refused", detail)


def _said(response: httpx2.Response) -> str:
    """The registry's own sentence, without the query of any address in it."""
    said: Any = response.headers.get("x-error-message")
    if not said:
        try:
            body = response.json()
            said = body.get("message") or body.get("error")
        except (ValueError, AttributeError, RuntimeError):  # no JSON, no object, or a stream that was not read
            said = None
    return re.sub(r"\?\S+", "?...", said)[:QUOTED] if isinstance(said, str) else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
