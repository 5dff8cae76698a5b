"""The store in an S3 bucket, by obstore: multipart, checked by the store and by us, never gigabytes in memory.

A key is the sha256 of what lies under it, so the bytes are known before the first of them is sent: an upload whose
bytes turn out to be others is aborted before it becomes visible. A put always writes, so that what is wanted is young;
a put and a sweep of the same blob meet at a marker (`delete_stale`).
"""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from jobs.problem import refuse
from jobs.store import CHUNK, PROJECT, SHA256, Blob, Store, open_plain

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore.store import S3Store as Bucket

PART = 8 << 20  # bytes of one part of an upload
PARTS_AT_ONCE = 4  # so an upload holds some 40 MB
MOST_PARTS = 9_000  # S3 takes 10,000
SWEEPS = ".sweep"  # beside the projects: what is being removed now
SWEEP_S = 20.0  # a removal that has taken longer is given up, before its marker is taken for a dead sweeper's
DEAD_S = 60.0
PAUSE_S = 0.1

log = logging.getLogger("ladapress.store")


class ChangedError(Exception):
    """A file gave other bytes when it was sent than when it was hashed."""


class S3Store(Store):
    """The store in a bucket, or below a prefix of one.

    Args:
        root: a local folder for what is on its way.
        bucket: obstore's, with the prefix.
        public: the same under the address that clients know, to sign addresses for them.
    """

    def __init__(self, root: Path, bucket: Bucket, public: Bucket | None = None) -> None:
        super().__init__(root)
        self._bucket = bucket
        self._public = public or bucket

    def put_file(self, project: str, path: Path, *, expected_sha256: str | None = None) -> Blob:
        """As `Store.put_file`, without a second copy on this machine: hashed first, then sent and hashed again.

        Raises:
            ChangedError: the file changed in between. Nothing is stored.
        """
        with open_plain(path) as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # typeshed's BinaryIO has no readinto
            blob = Blob(sha256, file.tell())
            if expected_sha256 is not None and sha256 != expected_sha256.lower():
                raise refuse("sha256_mismatch", f"the {blob.size} bytes have sha256 {sha256}, not {expected_sha256}")
            self._put(file, project, blob)
        return blob

    def fetch(self, project: str, sha256: str, target: Path, *, link: bool = False) -> None:  # noqa: ARG002 - no links
        """As `Store.fetch`, hashed as it comes."""
        found = hashlib.sha256()
        try:
            with self.open(project, sha256) as source, target.open("xb") as out:
                while chunk := source.read(CHUNK):
                    found.update(chunk)
                    out.write(chunk)
            self._same(sha256, found.hexdigest())
            target.chmod(0o440)
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def local_path(self, project: str, sha256: str) -> None:
        """None: it has to be fetched."""

    def presigned(self, project: str, sha256: str, seconds: float) -> str:
        """A GET of the blob, signed here: nothing is asked, so it may not be there."""
        return obstore.sign(self._public, "GET", self.key(project, sha256), timedelta(seconds=seconds))

    def size(self, project: str, sha256: str) -> int:
        """Bytes of a blob. Raises FileNotFoundError; Refused (unavailable)."""
        with _asked():
            return int(obstore.head(self._bucket, self.key(project, sha256))["size"])

    def open(self, project: str, sha256: str) -> BinaryIO:
        """A blob's bytes, asked for from where one reads. Raises FileNotFoundError; Refused (unavailable)."""
        key = self.key(project, sha256)
        return io.BufferedReader(_Remote(self._bucket, key, self.size(project, sha256)), CHUNK)

    def delete(self, project: str, sha256: str) -> bool:
        """Remove a blob; whether it was there."""
        try:
            self.size(project, sha256)
        except FileNotFoundError:
            return False
        with _asked():
            obstore.delete(self._bucket, self.key(project, sha256))
        return True

    def delete_stale(self, project: str, sha256: str, grace_s: float) -> bool:
        """Remove a blob that nobody has put for `grace_s`, by the store's own clock.

        S3 cannot look and remove in one step. So a marker goes first, then the look, the removal, and the marker is
        taken away; a put looks for a marker after it has written, waits for its end, and looks whether its blob is
        still there (`_put`). Whichever way they interleave, the put finds out.
        """
        key, marker = self.key(project, sha256), f"{SWEEPS}/{project}/{sha256}"
        began = time.monotonic()
        with _asked():
            try:
                obstore.put(self._bucket, marker, b"", mode="create")
            except AlreadyExistsError:
                self._drop_dead(marker)
                return False
            try:
                now = obstore.head(self._bucket, marker)["last_modified"]
                put = obstore.head(self._bucket, key)["last_modified"]
                if (now - put).total_seconds() < grace_s or time.monotonic() - began > SWEEP_S:
                    return False
                obstore.delete(self._bucket, key)
            except FileNotFoundError:
                return False
            finally:
                obstore.delete(self._bucket, marker)
        return True

    def blobs(self) -> Iterator[tuple[str, str]]:
        """(project, sha256) of everything in the store, a thousand at a time."""
        with _asked():
            for page in obstore.list(self._bucket):
                for entry in page:
                    project, _, rest = str(entry["path"]).partition("/")
                    sha256 = rest[3:]
                    if PROJECT.fullmatch(project) and SHA256.fullmatch(sha256):
                        yield project, sha256

    def check(self) -> None:
        """Raises Refused (unavailable) where the bucket does not answer, or not to these credentials."""
        with _asked():
            for _page in obstore.list(self._bucket, prefix=SWEEPS, chunk_size=1):
                break

    def _keep(self, part: Path, file: BinaryIO, project: str, blob: Blob) -> None:  # noqa: ARG002 - it was flushed
        with part.open("rb") as source:
            self._put(source, project, blob)

    def _put(self, file: BinaryIO, project: str, blob: Blob) -> None:
        key, marker = self.key(project, blob.sha256), f"{SWEEPS}/{project}/{blob.sha256}"
        there = False
        while not there:
            self._send(key, file, blob)
            deadline = time.monotonic() + DEAD_S
            while self._swept(marker) and time.monotonic() < deadline:  # it may have looked before this put
                time.sleep(PAUSE_S)
            with suppress(FileNotFoundError):
                there = self.size(project, blob.sha256) == blob.size

    def _send(self, key: str, file: BinaryIO, blob: Blob) -> None:
        size = max(PART, -(-blob.size // MOST_PARTS))
        sent = _Sent(file, blob.sha256, size)
        try:
            with _asked():
                if blob.size <= size:
                    answer = obstore.put(self._bucket, key, b"".join(sent), use_multipart=False)
                else:
                    answer = obstore.put(
                        self._bucket, key, iter(sent), chunk_size=size, max_concurrency=PARTS_AT_ONCE
                    )  # fmt: skip
        except FileNotFoundError as error:  # a put is told so where the bucket is not there
            raise _away(error) from None
        if str(answer["e_tag"]).strip('"') != sent.etag():
            self._read_back(key, blob)  # a store that encrypts, or that makes its tags otherwise

    def _read_back(self, key: str, blob: Blob) -> None:
        found = hashlib.sha256()
        with io.BufferedReader(_Remote(self._bucket, key, blob.size), CHUNK) as source:
            while chunk := source.read(CHUNK):
                found.update(chunk)
        if found.hexdigest() != blob.sha256:
            with _asked():
                obstore.delete(self._bucket, key)
        self._same(blob.sha256, found.hexdigest())

    def _same(self, wanted: str, found: str) -> None:
        if found != wanted:
            raise refuse("artifact_damaged", f"the store has sha256 {found} under the name {wanted}")

    def _swept(self, marker: str) -> bool:
        """Whether a sweep is removing this very blob."""
        try:
            with _asked():
                obstore.head(self._bucket, marker)
        except FileNotFoundError:
            return False
        return True

    def _drop_dead(self, marker: str) -> None:
        """Take away a marker whose sweeper must have died, by the store's clock; the next sweep begins afresh."""
        clock = f"{SWEEPS}/clock"
        obstore.put(self._bucket, clock, b"")
        with suppress(FileNotFoundError):
            times = [obstore.head(self._bucket, key)["last_modified"] for key in (clock, marker)]
            if (times[0] - times[1]).total_seconds() > DEAD_S:
                obstore.delete(self._bucket, marker)


class _Sent:
    """A file in pieces, hashed as they are sent. The last piece is not given out before the hash is right."""

    def __init__(self, file: BinaryIO, sha256: str, size: int) -> None:
        self._file, self._sha256, self._size = file, sha256, size
        self._parts: list[bytes] = []

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        self._parts = []
        found = hashlib.sha256()
        waiting: bytes | None = None
        while piece := self._file.read(self._size):
            found.update(piece)
            self._parts.append(hashlib.md5(piece, usedforsecurity=False).digest())
            if waiting is not None:
                yield waiting
            waiting = piece
        if found.hexdigest() != self._sha256:
            raise ChangedError(f"the file had sha256 {self._sha256}; now it has {found.hexdigest()}")
        if waiting is not None:
            yield waiting

    def etag(self) -> str:
        """What S3 calls the object where it encrypts nothing: the MD5 of its bytes, or of its parts' MD5s."""
        if len(self._parts) > 1:
            return f"{hashlib.md5(b''.join(self._parts), usedforsecurity=False).hexdigest()}-{len(self._parts)}"
        return (self._parts[0] if self._parts else hashlib.md5(usedforsecurity=False).digest()).hex()


class _Remote(io.RawIOBase):
    """A blob from afar. Reading on is one request; a seek begins another."""

    def __init__(self, bucket: Bucket, key: str, size: int) -> None:
        self._bucket, self._key, self._size = bucket, key, size
        self._at = 0
        self._stream: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        if at != self._at:
            self._at, self._stream, self._rest = at, None, memoryview(b"")
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        room = memoryview(buffer).cast("B")
        if self._at >= self._size or not room:
            return 0
        with _asked():
            if self._stream is None:
                asked = obstore.get(self._bucket, self._key, options={"range": (self._at, self._size)})
                self._stream = iter(asked.stream(min_chunk_size=CHUNK))
            if not self._rest:
                self._rest = memoryview(next(self._stream, b""))
        count = min(len(room), len(self._rest))
        if not count:
            raise EOFError(f"{self._key} ends {self._size - self._at} bytes early")
        room[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._at += count
        return count


@contextmanager
def _asked() -> Iterator[None]:
    """What goes wrong between us and the store is the operator's to know and the caller's to retry."""
    try:
        yield
    except BaseError as error:
        raise _away(error) from None


def _away(error: Exception) -> Exception:
    log.error("the store refuses or does not answer: %s", str(error).partition("\n")[0])
    return refuse("unavailable", "the store does not answer", retryable=True)
