"""Blobs on a local file system, named by the sha256 of their bytes, one tree per project: `<project>/<ab>/<sha256>`.

A blob is written beside, hashed as it comes, synced and renamed: it is whole or it is not there. Nothing is shared
across projects.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from jobs.ids import new_id
from jobs.problem import Refused, refuse

CHUNK = 1 << 20
PROJECT = re.compile(r"proj_[0-9a-z]{26}")
SHA256 = re.compile(r"[0-9a-f]{64}")
PARTS = ".parts"  # half-written files; on the store's own file system, so that the rename is atomic


@dataclass(frozen=True)
class Blob:
    """Bytes in the store: their sha256 (hex) and size in bytes."""

    sha256: str
    size: int


class LocalStore:
    """The store below one folder. Any number of processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, project: str, sha256: str) -> Path:
        """Where a blob lies, present or not.

        Raises:
            ValueError: not a project id, or not a sha256; nothing else ever becomes part of a path.
        """
        if not PROJECT.fullmatch(project) or not SHA256.fullmatch(sha256):
            raise ValueError("a blob is named by a project id and a sha256 in lower-case hex")
        return self.root / project / sha256[:2] / sha256

    def writer(self, project: str, *, max_bytes: int, expected_sha256: str | None = None) -> BlobWriter:
        """For callers to whom the bytes come: `with store.writer(...) as w: w.write(chunk)...; blob = w.commit()`."""
        return BlobWriter(self, project, max_bytes, expected_sha256)

    def put_stream(
        self, project: str, chunks: Iterable[bytes], *, max_bytes: int, expected_sha256: str | None = None
    ) -> Blob:
        """Store a stream. Storing the same bytes again changes nothing.

        Raises:
            Refused: payload_too_large, sha256_mismatch, storage_full. Nothing of the stream stays behind.
        """
        with self.writer(project, max_bytes=max_bytes, expected_sha256=expected_sha256) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()

    def put_file(self, project: str, path: Path) -> Blob:
        """Store a copy of a file. A symbolic link is refused (OSError): it could point out of a job's folder."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return self.put_stream(project, iter(lambda: file.read(CHUNK), b""), max_bytes=1 << 62)

    def delete(self, project: str, sha256: str) -> bool:
        """Remove a blob; whether it was there. Callers make sure that no row refers to it: `jobs.garbage` does."""
        try:
            self.path(project, sha256).unlink()
        except FileNotFoundError:
            return False
        return True

    def delete_stale(self, project: str, sha256: str, grace_s: float) -> bool:
        """Remove a blob that nobody has put for `grace_s`. A put that races with this keeps its blob."""
        path = self.path(project, sha256)
        aside = self._part()
        try:
            if time.time() - path.stat().st_mtime < grace_s:
                return False
            path.rename(aside)
        except FileNotFoundError:
            return False
        # A put may have refreshed the time between the look and the rename; it believes that the blob is there.
        if time.time() - aside.stat().st_mtime < grace_s:
            aside.rename(path)
            return False
        aside.unlink()
        return True

    def blobs(self) -> Iterator[tuple[str, str]]:
        """(project, sha256) of everything in the store."""
        for project in sorted(self.root.glob("proj_*")):
            for path in sorted(project.glob("??/*")):
                yield project.name, path.name

    def drop_parts(self, grace_s: float) -> int:
        """Remove half-written files that no write has touched for `grace_s`; how many."""
        stale = [p for p in (self.root / PARTS).glob("*") if time.time() - p.stat().st_mtime >= grace_s]
        for part in stale:
            part.unlink(missing_ok=True)
        return len(stale)

    def _part(self) -> Path:
        folder = self.root / PARTS
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        return folder / new_id("data")


class BlobWriter:
    """One blob on its way in. Leaving the context without `commit` removes every trace."""

    def __init__(self, store: LocalStore, project: str, max_bytes: int, expected_sha256: str | None) -> None:
        self.size = 0
        self._store = store
        self._project = project
        self._max_bytes = max_bytes
        self._expected = expected_sha256
        self._hash = hashlib.sha256()
        self._part: Path | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> BlobWriter:
        self._part = self._store._part()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.fdopen(os.open(self._part, flags, 0o440), "wb")
        return self

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises Refused (payload_too_large, storage_full)."""
        self.size += len(chunk)
        if self.size > self._max_bytes:
            raise refuse("payload_too_large", f"more than {self._max_bytes} bytes were sent; that is the limit")
        self._hash.update(chunk)
        try:
            self._open().write(chunk)
        except OSError as error:
            raise _full(error) from error

    def commit(self) -> Blob:
        """Make the blob visible, for good. Raises Refused (sha256_mismatch, storage_full)."""
        sha256 = self._hash.hexdigest()
        if self._expected is not None and sha256 != self._expected.lower():
            raise refuse("sha256_mismatch", f"the {self.size} bytes sent have sha256 {sha256}, not {self._expected}")
        path = self._store.path(self._project, sha256)
        try:
            file = self._open()
            file.flush()
            os.fsync(file.fileno())
            file.close()
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._place(path)
            _sync_folder(path.parent)
        except OSError as error:
            raise _full(error) from error
        return Blob(sha256, self.size)

    def _place(self, path: Path) -> None:
        assert self._part is not None  # noqa: S101 - _open has passed
        try:
            os.utime(path)  # there already: only say that it is wanted, see LocalStore.delete_stale
        except FileNotFoundError:
            self._part.rename(path)
            _sync_folder(path.parent.parent)

    def _open(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("use the writer as a context")
        return self._file

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._file is not None:
                self._file.close()
        except OSError:
            pass  # its buffer did not fit on a full disk; the part goes anyway
        finally:
            if self._part is not None:
                self._part.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _full(error: OSError) -> Refused | OSError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return refuse("storage_full", "no room is left for this file", retryable=True) if full else error
