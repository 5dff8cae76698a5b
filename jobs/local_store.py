"""The store in a folder: a blob is written beside, synced and renamed: a power cut leaves all of it or nothing."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from jobs.problem import refuse
from jobs.store import Blob, Store


class LocalStore(Store):
    """The store below one folder."""

    def path(self, project: str, sha256: str) -> Path:
        """Where a blob lies, present or not. Raises ValueError, as `key`."""
        return self.root / self.key(project, sha256)

    def fetch(self, project: str, sha256: str, target: Path, *, link: bool = False) -> None:
        """As `Store.fetch`; a hard link where there can be one and `link` allows it."""
        blob = self.path(project, sha256)
        if link:
            try:
                os.link(blob, target)
            except OSError:
                pass  # another file system, or one without hard links
            else:
                return
        shutil.copyfile(blob, target)
        target.chmod(0o440)

    def presigned(self, project: str, sha256: str, seconds: float) -> None:
        """None."""

    def local_path(self, project: str, sha256: str) -> Path:
        """Where a blob lies."""
        return self.path(project, sha256)

    def size(self, project: str, sha256: str) -> int:
        """Bytes of a blob. Raises FileNotFoundError."""
        return self.path(project, sha256).stat().st_size

    def open(self, project: str, sha256: str) -> BinaryIO:
        """A blob's bytes. Raises FileNotFoundError."""
        return self.path(project, sha256).open("rb")

    def delete(self, project: str, sha256: str) -> bool:
        """Remove a blob; whether it was there."""
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

    def check(self) -> None:
        """Raises Refused (unavailable) where the folder cannot be written."""
        writable = False
        with suppress(OSError):
            self.root.mkdir(parents=True, exist_ok=True)
            writable = os.access(self.root, os.W_OK)
        if not writable:
            raise refuse("unavailable", "the store cannot be written", retryable=True)

    def _keep(self, part: Path, file: BinaryIO, project: str, blob: Blob) -> None:
        path = self.path(project, blob.sha256)
        os.fsync(file.fileno())
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        try:
            os.utime(path)  # there already: only say that it is wanted, see delete_stale
        except FileNotFoundError:
            part.rename(path)
            _sync_folder(path.parent.parent)
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
