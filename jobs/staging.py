"""The bytes of uploads that are not whole yet: one file each, in a folder that API processes may share.

Who writes holds a lock of the kernel's on the file (flock). It ends with its process, however that ends, so nobody
waits for the lease of somebody who is dead.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from jobs.problem import refuse


class Staging:
    """One folder of files named by upload ids."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, upload_id: str) -> Path:
        """Where the bytes of an upload lie, present or not."""
        return self.folder / upload_id

    def create(self, upload_id: str) -> None:
        """Make the empty file of a new upload."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        os.close(os.open(self.path(upload_id), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))

    def hold(self, upload_id: str) -> BinaryIO:
        """The file, for this caller alone until it is closed.

        Raises:
            Refused: upload_busy where somebody else holds it, upload_lost where it is not there.
        """
        try:
            file = self.path(upload_id).open("r+b")
        except FileNotFoundError:
            raise lost() from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            detail = "another request is writing to this upload; ask for the offset when it has ended"
            raise refuse("upload_busy", detail, retryable=True) from None
        return file

    def remove(self, upload_id: str) -> None:
        """Take an upload's bytes away. Who holds the file writes to nowhere from now on."""
        self.path(upload_id).unlink(missing_ok=True)

    def older_than(self, seconds: float) -> Iterator[str]:
        """Ids of the files that nobody has written to for so long."""
        for path in sorted(self.folder.glob("upl_*")):
            try:
                if time.time() - path.stat().st_mtime >= seconds:
                    yield path.name
            except FileNotFoundError:
                continue


def lost() -> Exception:
    """To be raised where bytes that were answered for are gone."""
    return refuse("upload_lost", "the service has lost the bytes of this upload; begin it again")
