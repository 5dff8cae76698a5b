"""What a job is made from: `client.models` and `client.datasets`. A refused upload is taken back."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Unpack

from ladapress import resumable, types, uploads
from ladapress.errors import LadapressError
from ladapress.modes import Mode, operation
from ladapress.pages import Asked, Window, listing
from ladapress.resource import Moved, Resource, nobody
from ladapress.transport import Transport, given, parsed, place


class Models(Resource[Mode]):
    """Uploaded models."""

    @operation
    async def upload(
        self,
        folder: str | os.PathLike[str],
        *,
        name: str | None = None,
        moved: Moved = nobody,
        idempotency_key: str | None = None,
    ) -> types.Model:
        """Send a model folder as `save_pretrained` writes it: weights as safetensors, configuration, tokenizer.

        A refused upload is taken back. `moved` is told the bytes as they go.

        Raises:
            LadapressError: `usage` for a folder that is no model; else the service's refusal.
        """
        files = uploads.model_files(Path(folder))
        digests = {path: await self._transport.port.work(uploads.sha256, file) for path, file in files.items()}
        declared = [{"path": path, "size": files[path].stat().st_size, "sha256": digests[path]} for path in files]
        body = {"name": name or Path(folder).resolve().name, "files": declared}
        model = await self._ask(types.Model, "POST", place("models"), json=body, idempotency_key=idempotency_key)
        try:
            for missing in model.missing:
                if files[missing].stat().st_size >= resumable.FROM_BYTES:
                    what = {"purpose": "model_file", "model": model.id, "path": missing}
                    await resumable.send(self._transport, files[missing], digests[missing], what, moved)
                    continue
                where = place("models", model.id, "files", missing)
                headers = {"content-type": "application/octet-stream"}
                await send_file(self._transport, "PUT", where, files[missing], moved, headers=headers)
        except BaseException:
            with suppress(LadapressError), self._transport.port.shield():
                await self._delete(place("models", model.id))
            raise
        return await Models.get(self, model.id)

    @operation
    async def create(self, *, source: str, name: str | None = None, idempotency_key: str | None = None) -> types.Model:
        """A model of what the service itself can read.

        Args:
            source: a folder or prefix below a source that the operator has opened.
        """
        body = given({"source": source, "name": name})
        return await self._ask(types.Model, "POST", place("models"), json=body, idempotency_key=idempotency_key)

    @operation
    async def get(self, model_id: str) -> types.Model:
        """One model."""
        return await self._ask(types.Model, "GET", place("models", model_id))

    @listing
    def list(self, **window: Unpack[Window]) -> Asked[types.Model]:
        """Newest first, `limit` a page."""
        return self._list(types.Model, place("models"), window)

    @operation
    async def keep(self, model_id: str, *, expires_at: datetime | str | None) -> types.Model:
        """Say when a model goes by itself; None: never."""
        return await self._keep(types.Model, place("models", model_id), expires_at)

    @operation
    async def delete(self, model_id: str) -> None:
        """Delete a model; refused while a job needs it."""
        await self._delete(place("models", model_id))


class Datasets(Resource[Mode]):
    """Uploaded labelled text."""

    @operation
    async def upload(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        moved: Moved = nobody,
        idempotency_key: str | None = None,
    ) -> types.Dataset:
        """Send one CSV, JSONL or Parquet file; its name tells the format.

        Raises:
            LadapressError: `usage` for a name that tells no format, `damaged_upload` where other bytes arrived.
        """
        file = Path(path)
        headers = {"content-type": uploads.media_type(file)}
        digest = await self._transport.port.work(uploads.sha256, file)
        if file.stat().st_size >= resumable.FROM_BYTES:
            what = {"purpose": "dataset", "filename": name or file.name, "filetype": headers["content-type"]}
            made = await resumable.send(self._transport, file, digest, what, moved)
            return await Datasets.get(self, made["dataset_id"])
        answer = await send_file(
            self._transport, "POST", place("datasets"), file, moved,
            headers=headers, params={"name": name or file.name}, idempotency_key=idempotency_key,
        )  # fmt: skip
        dataset = parsed(types.Dataset, answer, "POST /v1/datasets")
        if dataset.sha256 != digest:
            await self._delete(place("datasets", dataset.id))
            raise LadapressError.local(
                "damaged_upload",
                f"{file}: sha256 {digest} here, {dataset.sha256} at the service; was it changed meanwhile?",
                retryable=True,
            )
        return dataset

    @operation
    async def create(
        self, *, source: str, name: str | None = None, idempotency_key: str | None = None
    ) -> types.Dataset:
        """A dataset of what the service itself can read.

        Args:
            source: a file below a source that the operator has opened.
        """
        asked = given({"source": source, "name": name})
        return await self._ask(types.Dataset, "POST", place("datasets"), params=asked, idempotency_key=idempotency_key)

    @operation
    async def get(self, dataset_id: str) -> types.Dataset:
        """One dataset."""
        return await self._ask(types.Dataset, "GET", place("datasets", dataset_id))

    @listing
    def list(self, **window: Unpack[Window]) -> Asked[types.Dataset]:
        """Newest first, `limit` a page."""
        return self._list(types.Dataset, place("datasets"), window)

    @operation
    async def keep(self, dataset_id: str, *, expires_at: datetime | str | None) -> types.Dataset:
        """Say when a dataset goes by itself; None: never."""
        return await self._keep(types.Dataset, place("datasets", dataset_id), expires_at)

    @operation
    async def delete(self, dataset_id: str) -> None:
        """Delete a dataset; refused while a job needs it."""
        await self._delete(place("datasets", dataset_id))


async def send_file(
    transport: Transport,
    method: str,
    path: str,
    file: Path,
    moved: Moved,
    *,
    headers: Mapping[str, str],
    **options: Any,
) -> Any:
    """Send a file as the raw body of one request, from its first byte in each try. Every upload goes through here."""
    sent = 0

    async def body() -> AsyncGenerator[bytes, None]:
        nonlocal sent
        moved(-sent)
        sent = 0
        with file.open("rb") as opened:
            while piece := await transport.port.work(opened.read, uploads.CHUNK):
                yield piece
                sent += len(piece)
                moved(len(piece))

    length = {"content-length": str(file.stat().st_size)}
    return await transport.json(method, path, body=body, headers={**headers, **length}, **options)
