"""Bytes on their way in: never held in memory, limited while they come, refused by name and by first bytes.

The rules for model files are those of `core.upload`, which the inspection applies again to the whole folder.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import PurePosixPath

import anyio
from anyio.to_thread import run_sync
from fastapi import Request
from starlette.requests import ClientDisconnect

from core.upload import HEAD, MAGIC, check_magic, check_name
from jobs.problem import refuse
from jobs.store import Blob, Store

BATCH = 1 << 20  # bytes handed to the disk at once
SILENCE_S = 30.0  # a sender who is silent for longer is sent away
FORMATS = {
    "text/csv": "csv",
    "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl",
    "application/x-jsonlines": "jsonl",
    "application/vnd.apache.parquet": "parquet",
    "application/x-parquet": "parquet",
}
SUFFIXES = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
UNKNOWN = ("", "application/octet-stream", "binary/octet-stream")  # the file name decides

Check = Callable[[bytes], None]


async def receive(
    request: Request, store: Store, project: str, *, max_bytes: int, sha256: str | None, check: Check
) -> Blob:
    """Stream a request's body into the store.

    Args:
        max_bytes: refused beyond it, by `Content-Length` before the first byte is read.
        sha256: what the bytes must hash to, if that was announced.
        check: sees the first bytes before anything is written; raises to refuse them.

    Raises:
        Refused: payload_too_large, sha256_mismatch, storage_full, request_timeout; what `check` raises.
    """
    length = announced_length(request)
    if length is not None and length > max_bytes:
        raise refuse("payload_too_large", f"{length} bytes are announced; at most {max_bytes} are taken")
    with store.writer(project, max_bytes=max_bytes, expected_sha256=sha256) as writer:
        head_seen = False
        async for batch in batches(request):
            if not head_seen:
                check(batch[:HEAD])
                head_seen = True
            await run_sync(writer.write, batch)
        if not head_seen:
            check(b"")
        return await run_sync(writer.commit)


def announced_length(request: Request) -> int | None:
    """`Content-Length` as a number, or None where the body comes in chunks."""
    value = request.headers.get("content-length", "")
    return int(value[:20]) if value.isascii() and value.isdigit() else None


def model_file_check(name: str) -> Check:
    """The check of one model file's first bytes. Raises ModelUnsafe at once where the name is not allowed."""
    check_name(name)
    return lambda head: check_magic(name, head)


def dataset_format(content_type: str, name: str | None) -> str:
    """csv, jsonl or parquet, from the media type and the file name.

    Raises:
        Refused: unsupported_media_type; request_invalid where both are known and differ.
    """
    media = content_type.partition(";")[0].strip().lower()
    by_name = SUFFIXES.get(PurePosixPath(name or "").suffix.lower())
    by_type = FORMATS.get(media)
    legal = "text/csv, application/jsonl, application/vnd.apache.parquet; or a name ending in .csv, .jsonl, .parquet"
    if by_type is None and (media not in UNKNOWN or by_name is None):
        raise refuse("unsupported_media_type", f"content type {media[:80]!r} does not say the format; legal: {legal}")
    if by_type is not None and by_name is not None and by_type != by_name:
        raise refuse(
            "request_invalid",
            f"content type {media!r} says {by_type}, the name says {by_name}; they must agree",
            param="query.name",
        )
    found = by_type or by_name
    assert found is not None  # noqa: S101 - the first refusal
    return found


def dataset_check(format_: str) -> Check:
    """The check of a dataset's first bytes: cheap, so that the wrong file is refused before the inspection."""

    def check(head: bytes) -> None:
        what = next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)
        if head.startswith(b"PAR1"):
            what = "Parquet"
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            what = "UTF-16"
        if not head:
            raise refuse("data_invalid", "the body is empty; a dataset has at least one row")
        if format_ == "parquet" and what != "Parquet":
            raise refuse("data_invalid", "the file does not begin like Parquet (PAR1)")
        if format_ != "parquet" and (what is not None or b"\x00" in head):
            raise refuse("data_invalid", f"the file is {what or 'binary'} by its content; legal: {format_} in UTF-8")

    return check


async def batches(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of about BATCH bytes, which costs a thread hop per MiB and not per packet.

    What came before a sender went away, or fell silent, is given out before that is raised.

    Raises:
        ClientDisconnect; Refused: request_timeout.
    """
    waiting = bytearray()
    stream = request.stream()
    while True:
        try:
            with anyio.fail_after(SILENCE_S):
                waiting += await anext(stream)
        except StopAsyncIteration:
            break
        except ClientDisconnect:
            if waiting:
                yield bytes(waiting)
            raise
        except TimeoutError:
            if waiting:
                yield bytes(waiting)
            raise refuse("request_timeout", f"no byte came for {SILENCE_S:g} seconds", retryable=True) from None
        if len(waiting) >= BATCH:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)
