"""Models and datasets taken from the operator's sources: the same rules as for what is sent, and the same two doors.

This is done here and not by a worker: the rules for uploads live here, a worker may have no way out, and asking again
after a cut repeats nothing but the copying. Bytes go through in pieces, each file limited as it comes.
"""

from __future__ import annotations

from collections.abc import Iterator

from api import schemas, uploads, views
from api.context import Context
from core.errors import ModelUnsafe
from core.upload import HEAD, check_name
from jobs import service
from jobs.problem import refuse
from jobs.scope import Scope
from jobs.sources import SourceFile
from jobs.store import Blob

MAX_FILES = 200


def take_model(context: Context, scope: Scope, name: str | None, source: str) -> schemas.Model:
    """A ready model from a folder or a prefix: of its files those that a model may have; training leaves more there.

    Raises:
        Refused: source_unknown, payload_too_large, what the store refuses. ModelUnsafe by the first bytes of a file.
    """
    files = [file for file in context.sources.files(source, param="/source") if _may_be_in_a_model(file.name)]
    if not 0 < len(files) <= MAX_FILES:
        detail = f"/source: {len(files)} files there may be in a model; legal: 1 to {MAX_FILES}"
        raise refuse("request_invalid", detail, param="/source")
    most = context.settings.max_model_bytes
    _fits(sum(file.size for file in files), most)
    blobs = [_take(context, scope, file, uploads.model_file_check(file.name), most) for file in files]
    with context.database.sessions.begin() as s:
        declared = [
            service.DeclaredFile(file.name, blob.size, blob.sha256) for file, blob in zip(files, blobs, strict=True)
        ]
        model = service.create_model(s, scope, name, declared, keep_s=context.settings.keep_uploads_s)
        for file, blob in zip(files, blobs, strict=True):
            model = service.file_arrived(s, scope, model.id, file.name, blob, most)
        return views.models(s, scope, [model])[0]


def take_dataset(context: Context, scope: Scope, name: str | None, source: str) -> schemas.Dataset:
    """A dataset from one file, whose suffix says the format.

    Raises:
        Refused: source_unknown, unsupported_media_type, payload_too_large, data_invalid, what the store refuses.
    """
    files = context.sources.files(source, param="query.source")
    if len(files) != 1:
        raise refuse("request_invalid", "query.source: names a folder; legal: one file", param="query.source")
    (file,) = files
    format_ = uploads.dataset_format("", file.name)
    most = context.settings.max_dataset_bytes
    _fits(file.size, most)
    blob = _take(context, scope, file, uploads.dataset_check(format_), most)
    with context.database.sessions.begin() as s:
        keep_s = context.settings.keep_uploads_s
        return views.dataset(service.create_dataset(s, scope, name or file.name, format_, blob, keep_s=keep_s))


def _take(context: Context, scope: Scope, file: SourceFile, check: uploads.Check, most: int) -> Blob:
    def checked() -> Iterator[bytes]:
        chunks = file.chunks()
        first = next(chunks, b"")
        check(first[:HEAD])
        yield first
        yield from chunks

    try:
        return context.store.put_stream(scope.project_id, checked(), max_bytes=most)
    except (FileNotFoundError, ValueError):  # it was there a moment ago
        raise refuse("source_unknown", f"{file.name[:200]!r} is not there any more", retryable=True) from None


def _may_be_in_a_model(name: str) -> bool:
    try:
        check_name(name)
    except ModelUnsafe:
        return False
    return True


def _fits(size: int, most: int) -> None:
    if size > most:
        raise refuse("payload_too_large", f"the source has {size} bytes; at most {most} are taken")
