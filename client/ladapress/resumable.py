"""Sending a large file so that a lost connection costs a piece of it, by tus 1.0 (docs/api.md of the service).

Every piece carries its own checksum and the whole its sha256: what arrives is what lies here, or nothing is made of it.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Unpack

from ladapress import types
from ladapress.backoff import FIRST_DELAY_S
from ladapress.errors import LadapressError
from ladapress.modes import Mode, operation
from ladapress.pages import Asked, Window, listing
from ladapress.resource import Moved, Resource
from ladapress.transport import Transport, place

FROM_BYTES = 64 << 20  # smaller files are sent in one piece: the way back is short
PIECE = 16 << 20  # bytes of a piece; what a cut may cost
FINISH_S = 900.0  # after the last byte the service reads the whole once more
TUS = {"tus-resumable": "1.0.0"}
ELSEWHERE = ("upload_offset", "upload_busy")  # a piece arrived whose answer was lost, or is still being read


class Uploads(Resource[Mode]):
    """Large files on their way: `client.uploads`. `models.upload` and `datasets.upload` begin and fill them."""

    @operation
    async def get(self, upload_id: str) -> types.Upload:
        """One upload: how far it is, and what it has become."""
        return await self._ask(types.Upload, "GET", place("uploads", upload_id))

    @listing
    def list(self, **window: Unpack[Window]) -> Asked[types.Upload]:
        """Newest first, `limit` a page."""
        return self._list(types.Upload, place("uploads"), window)

    @operation
    async def delete(self, upload_id: str) -> None:
        """Forget an upload; what it has become stays."""
        await self._delete(place("uploads", upload_id))


async def send(transport: Transport, file: Path, digest: str, metadata: Mapping[str, str], moved: Moved) -> Any:
    """Upload a file in pieces; what the service says about the upload when it is complete.

    Args:
        digest: sha256 of the file, in hex.
        metadata: what the file is to become, see POST /v1/uploads.
        moved: told the bytes as they go.

    Raises:
        LadapressError: the service's refusal, or `unreachable` when patience ran out. Nothing stays behind.
    """
    size = file.stat().st_size
    pairs = ",".join(f"{key} {_base64(value.encode())}" for key, value in {**metadata, "sha256": digest}.items())
    headers = {**TUS, "upload-length": str(size), "upload-metadata": pairs}
    async with transport.send("POST", place("uploads"), headers=headers) as made:
        where = made.headers["location"]
    try:
        with file.open("rb") as source:
            await _fill(transport, where, source, size, moved)
        return await transport.json("GET", where)
    except BaseException:
        with suppress(LadapressError), transport.port.shield():
            await transport.json("DELETE", where, headers=TUS)
        raise


async def _fill(transport: Transport, where: str, source: BinaryIO, size: int, moved: Moved) -> None:
    at = 0
    deadline = time.monotonic() + transport.patience_s
    while at < size:
        source.seek(at)
        piece = await transport.port.work(source.read, PIECE)
        if not piece:
            raise LadapressError.local("damaged_upload", f"{source.name} became shorter while it was sent")
        try:
            reached = await _patch(transport, where, at, piece)
        except LadapressError as error:
            again = error.code in ELSEWHERE or error.code == "checksum_mismatch"
            if not again or time.monotonic() > deadline:
                raise
            await transport.port.sleep(FIRST_DELAY_S)
            reached = await _stands(transport, where)
        moved(reached - at)
        if reached > at:
            deadline = time.monotonic() + transport.patience_s
        at = reached


async def _patch(transport: Transport, where: str, at: int, piece: bytes) -> int:
    headers = {
        **TUS,
        "upload-offset": str(at),
        "content-type": "application/offset+octet-stream",
        "content-length": str(len(piece)),
        "upload-checksum": f"sha256 {_base64(hashlib.sha256(piece).digest())}",
    }

    async def body() -> AsyncIterator[bytes]:
        yield piece

    async with transport.send("PATCH", where, body=body, headers=headers, timeout_s=FINISH_S) as answer:
        return int(answer.headers["upload-offset"])


async def _stands(transport: Transport, where: str) -> int:
    async with transport.send("HEAD", where, headers=TUS) as answer:
        return int(answer.headers["upload-offset"])


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
