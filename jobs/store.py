"""The store: blobs named by the sha256 of their bytes, one tree per project: `<project>/<ab>/<sha256>`.

`Store` is what everybody works with, whatever lies below it: a folder (`jobs.local_store`) or an S3 bucket
(`jobs.s3_store`); `jobs.stores` opens the one of the settings. A blob is written aside, hashed as it comes, and whole
or not there. Nothing is shared across projects.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import time
from abc import ABC, abstractmethod
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
PARTS = ".parts"  # half-written files; on the local store's own file system, so that the rename is atomic


@dataclass(frozen=True)
class Blob:
    """Bytes in the store: their sha256 (hex) and size in bytes."""

    sha256: str
    size: int


class Store(ABC):
    """Blobs by project and sha256. Any number of processes may use one store at once.

    Args:
        root: a local folder. What is on its way into the store lies in it, below PARTS.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def key(project: str, sha256: str) -> str:
        """The name of a blob within the store, present or not.

        Raises:
            ValueError: not a project id, or not a sha256; nothing else ever becomes part of a name.
        """
        if not PROJECT.fullmatch(project) or not SHA256.fullmatch(sha256):
            raise ValueError("a blob is named by a project id and a sha256 in lower-case hex")
        return f"{project}/{sha256[:2]}/{sha256}"

    def writer(self, project: str, *, max_bytes: int, expected_sha256: str | None = None) -> BlobWriter:
        """For callers to whom the bytes come: `with store.writer(...) as w: w.write(chunk)...; blob = w.commit()`."""
        return BlobWriter(self, project, max_bytes, expected_sha256)

    def put_stream(
        self, project: str, chunks: Iterable[bytes], *, max_bytes: int, expected_sha256: str | None = None
    ) -> Blob:
        """Store a stream. Storing the same bytes again changes nothing.

        Raises:
            Refused: payload_too_large, sha256_mismatch, storage_full, unavailable. Nothing of the stream stays behind.
        """
        with self.writer(project, max_bytes=max_bytes, expected_sha256=expected_sha256) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()

    def put_file(self, project: str, path: Path, *, expected_sha256: str | None = None) -> Blob:
        """Store a copy of a file. A symbolic link is refused (OSError): it could point out of a job's folder.

        Raises:
            Refused: as `put_stream`.
        """
        with open_plain(path) as file:
            return self.put_stream(project, pieces(file), max_bytes=1 << 62, expected_sha256=expected_sha256)

    def drop_parts(self, grace_s: float) -> int:
        """Remove half-written files that no write has touched for `grace_s`; how many."""
        stale = [p for p in (self.root / PARTS).glob("*") if time.time() - p.stat().st_mtime >= grace_s]
        for part in stale:
            part.unlink(missing_ok=True)
        return len(stale)

    @abstractmethod
    def fetch(self, project: str, sha256: str, target: Path, *, link: bool = False) -> None:
        """Put a blob's bytes into a new file that its owner cannot write.

        Args:
            link: a hard link will do, where there can be one. Only for whoever cannot write through it.

        Raises:
            FileNotFoundError: no such blob.
            Refused: artifact_damaged where other bytes came (nothing is left then), unavailable.
        """

    @abstractmethod
    def local_path(self, project: str, sha256: str) -> Path | None:
        """The blob as a file of this machine, which nobody may change; None where it has to be fetched."""

    @abstractmethod
    def presigned(self, project: str, sha256: str, seconds: float) -> str | None:
        """An address that gives the bytes to whoever knows it, for so long; None where the store has none."""

    @abstractmethod
    def size(self, project: str, sha256: str) -> int:
        """Bytes of a blob. Raises FileNotFoundError; Refused (unavailable)."""

    @abstractmethod
    def open(self, project: str, sha256: str) -> BinaryIO:
        """A blob's bytes, from any place on (`seek`). Raises FileNotFoundError; Refused (unavailable)."""

    @abstractmethod
    def delete(self, project: str, sha256: str) -> bool:
        """Remove a blob; whether it was there. Callers make sure that no row refers to it: `jobs.garbage` does."""

    @abstractmethod
    def delete_stale(self, project: str, sha256: str, grace_s: float) -> bool:
        """Remove a blob that nobody has put for `grace_s`; whether it went. A put that races keeps its blob."""

    @abstractmethod
    def blobs(self) -> Iterator[tuple[str, str]]:
        """(project, sha256) of everything in the store."""

    @abstractmethod
    def check(self) -> None:
        """Raises Refused (unavailable) where nothing could be stored now."""

    @abstractmethod
    def _keep(self, part: Path, file: BinaryIO, project: str, blob: Blob) -> None:
        """Make a part, written through `file` but not yet on disk, a blob for good."""

    def _part(self) -> Path:
        folder = self.root / PARTS
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        return folder / new_id("data")


class BlobWriter:
    """One blob on its way in. Leaving the context without `commit` removes every trace."""

    def __init__(self, store: Store, project: str, max_bytes: int, expected_sha256: str | None) -> None:
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
            raise full(error) from error

    def commit(self) -> Blob:
        """Make the blob visible, for good. Raises Refused (sha256_mismatch, storage_full, unavailable)."""
        sha256 = self._hash.hexdigest()
        if self._expected is not None and sha256 != self._expected.lower():
            raise refuse("sha256_mismatch", f"the {self.size} bytes sent have sha256 {sha256}, not {self._expected}")
        blob = Blob(sha256, self.size)
        try:
            file = self._open()
            file.flush()
            assert self._part is not None  # noqa: S101 - _open has passed
            self._store._keep(self._part, file, self._project, blob)
        except OSError as error:
            raise full(error) from error
        return blob

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


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """What is left of a file, CHUNK bytes at a time."""
    return iter(lambda: file.read(CHUNK), b"")


def open_plain(path: Path) -> BinaryIO:
    """A file for reading. Raises OSError where it is a symbolic link."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def full(error: OSError) -> Refused | OSError:
    """What an error of the operating system means to whoever sends bytes."""
    no_room = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return refuse("storage_full", "no room is left for this file", retryable=True) if no_room else error
