"""One PATCH of an upload: bytes to the staged file, offsets to the row, and at the end the object."""

from __future__ import annotations

import logging
import os

import anyio
from anyio.to_thread import run_sync

from api import uploads
from api.context import Context
from api.tus import Checksum
from core.upload import HEAD
from jobs import service
from jobs.problem import Refused, refuse
from jobs.scope import Scope
from jobs.staging import lost
from jobs.store import full
from jobs.tables import Upload

SAVE_BYTES = 16 << 20  # a cut loses no more than this, where the process dies with the connection
EXPIRE_EVERY_S = 60.0
ORPHAN_S = 3_600.0  # a file without a row is of a creation that broke, or of a removal that did

log = logging.getLogger("ladapress.api")


class Append:
    """Holds an upload for one request. Every method blocks; call them in a thread, one at a time, `close` last."""

    def __init__(
        self, context: Context, scope: Scope, upload_id: str, offset: int, length: int | None, checksum: Checksum | None
    ) -> None:
        """Raises Refused: not_found, upload_offset, upload_busy, upload_lost, payload_too_large."""
        self._context, self._scope, self._id, self._checksum = context, scope, upload_id, checksum
        self._look(offset)  # before the file: a complete upload has none
        self._file = context.staging.hold(upload_id)
        self._saved = self._at = offset
        self._unsaved = 0
        try:
            self._row = self._begin(offset, length)
        except BaseException:
            self._file.close()
            raise

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises Refused; where the first ones show that the file will never do, the upload is gone."""
        if self._at == 0 and len(chunk) >= HEAD:
            self._check(chunk[:HEAD])
        if self._at + len(chunk) > self._row.length:
            raise self._too_long(self._row.length)
        try:
            self._file.write(chunk)
        except OSError as error:
            raise full(error) from error
        self._at += len(chunk)
        self._unsaved += len(chunk)
        if self._checksum is not None:
            self._checksum.update(chunk)
        elif self._unsaved >= SAVE_BYTES:
            self.save()

    def save(self) -> None:
        """Answer for what has come, but for the last byte of all: that one comes with the object.

        Bytes under a checksum that were not verified are not answered for.
        """
        received = min(self._at, self._row.length - 1)
        if self._checksum is not None or received == self._saved:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise full(error) from error
        with self._context.database.sessions.begin() as s:
            service.advance(s, self._scope, self._id, self._saved, received, self._context.settings.upload_ttl_s)
        self._saved, self._unsaved = received, 0

    def finish(self) -> Upload:
        """The body has ended: verify its checksum, and make the object where it was the last.

        Raises:
            Refused: checksum_mismatch; where the whole is refused for good (sha256_mismatch, model_complete ...) the
                upload is gone, where the store or its room is (unavailable, storage_full) it stands at its last byte.
        """
        if self._checksum is not None:
            self._checksum.verify()
            self._checksum = None
        if self._at < self._row.length:
            self.save()
        else:
            self._complete()
        with self._context.database.readers() as s:
            return service.get_upload(s, self._scope, self._id)

    def close(self) -> None:
        """Let the upload go."""
        self._file.close()

    def _begin(self, offset: int, length: int | None) -> Upload:
        row = self._look(offset)  # again, now that nobody else moves it
        if length is not None and offset + length > row.length:
            raise self._too_long(row.length)
        if os.fstat(self._file.fileno()).st_size < offset:
            raise lost()
        self._file.truncate(offset)  # bytes that were never answered for
        self._file.seek(offset)
        return row

    def _complete(self) -> None:
        context = self._context
        try:
            self._file.flush()
            self._file.seek(0)
            self._check(self._file.read(HEAD))
            path = context.staging.path(self._id)
            blob = context.store.put_file(self._scope.project_id, path, expected_sha256=self._row.sha256)
            with context.database.sessions.begin() as s:
                settings = context.settings
                service.complete_upload(
                    s, self._scope, self._id, blob, ttl_s=settings.upload_ttl_s,
                    max_model_bytes=settings.max_model_bytes, keep_s=settings.keep_uploads_s,
                )  # fmt: skip
        except Refused as refused:
            if refused.problem.retryable:
                self.save()
            else:
                self._drop()
            raise
        except FileNotFoundError:  # deleted in this moment
            raise lost() from None
        except OSError as error:
            raise full(error) from error
        context.staging.remove(self._id)

    def _check(self, head: bytes) -> None:
        """The same look at the first bytes as an upload in one piece gets."""
        spec = self._row.spec
        check = (
            uploads.dataset_check(spec["format"])
            if self._row.purpose == "dataset"
            else uploads.model_file_check(spec["path"])
        )
        try:
            check(head)
        except Exception:
            self._drop()
            raise

    def _drop(self) -> None:
        with self._context.database.sessions.begin() as s:
            service.delete_upload(s, self._scope, self._id)
        self._context.staging.remove(self._id)

    def _look(self, offset: int) -> Upload:
        with self._context.database.readers() as s:
            row = service.get_upload(s, self._scope, self._id)
        if row.received != offset or row.state == "complete":
            raise service.wrong_offset(row, offset)
        return row

    def _too_long(self, length: int) -> Refused:
        return refuse("payload_too_large", f"the upload has {length} bytes in all; more were sent")


async def expire(context: Context) -> None:
    """Forget uploads whose time is over, for ever and ever. A minute without the database is a minute later."""
    while True:
        try:
            await run_sync(expire_now, context)
        except Exception:
            log.exception("uploads are not expired this time")
        await anyio.sleep(EXPIRE_EVERY_S)


def expire_now(context: Context) -> None:
    """One round: rows whose time is over with their bytes, and bytes that belong to no open upload."""
    while True:
        with context.database.sessions.begin() as s:
            ids = service.expire_uploads(s)
        for upload_id in ids:
            context.staging.remove(upload_id)
        if not ids:
            break
    orphans = list(context.staging.older_than(ORPHAN_S))
    for start in range(0, len(orphans), 500):
        with context.database.readers() as s:
            for upload_id in service.without_bytes(s, orphans[start : start + 500]):
                context.staging.remove(upload_id)
