"""What a job is made from: `client.models` and `client.datasets`. A refused upload is taken back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ladapress import resumable, types, uploads
from ladapress.download import Moved, nobody
from ladapress.errors import LadapressError
from ladapress.transport import Transport, place


class Models:
    """Uploaded models."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(self, folder: str | os.PathLike[str], *, name: str | None = None, moved: Moved = nobody) -> types.Model:
        """Send a model folder as `save_pretrained` writes it: weights as safetensors, configuration, tokenizer.

        A refused upload is taken back. `moved` is told the bytes as they go.

        Raises:
            LadapressError: `usage` for a folder that is no model; else the service's refusal.
        """
        files = uploads.model_files(Path(folder))
        declared = [
            {"path": name, "size": path.stat().st_size, "sha256": uploads.sha256(path)} for name, path in files.items()
        ]
        body = {"name": name or Path(folder).resolve().name, "files": declared}
        # A second try may leave an empty model behind; it holds no bytes.
        model = types.Model.model_validate(self._transport.json("POST", "/v1/models", json=body, repeatable=True))
        try:
            for missing in model.missing:
                path = files[missing]
                if path.stat().st_size < resumable.FROM_BYTES:
                    self._put(model.id, missing, path, moved)
                else:
                    digest = next(one["sha256"] for one in declared if one["path"] == missing)
                    what = {"purpose": "model_file", "model": model.id, "path": missing}
                    resumable.send(self._transport, path, str(digest), what, moved)
        except BaseException:
            with suppress(LadapressError):
                self.delete(model.id)
            raise
        return self.get(model.id)

    def _put(self, model_id: str, name: str, path: Path, moved: Moved) -> None:
        sent = 0

        def body() -> Iterator[bytes]:
            nonlocal sent
            moved(-sent)
            sent = 0
            for piece in uploads.chunks(path):
                yield piece
                sent += len(piece)
                moved(len(piece))

        headers = {"content-type": "application/octet-stream", "content-length": str(path.stat().st_size)}
        self._transport.json("PUT", place("models", model_id, "files", name), body=body, headers=headers)

    def get(self, model_id: str) -> types.Model:
        """One model."""
        return types.Model.model_validate(self._transport.json("GET", place("models", model_id)))

    def list(self, *, limit: int = 20, after: str | None = None) -> types.ModelList:
        """Newest first; `after` is the last id of the page before."""
        return types.ModelList.model_validate(self._transport.page("/v1/models", limit, after))

    def delete(self, model_id: str) -> None:
        """Delete a model; refused while a job needs it."""
        self._transport.json("DELETE", place("models", model_id))


class Datasets:
    """Uploaded labelled text."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(self, path: str | os.PathLike[str], *, name: str | None = None, moved: Moved = nobody) -> types.Dataset:
        """Send one CSV, JSONL or Parquet file; its name tells the format.

        Raises:
            LadapressError: `usage` for a name that tells no format, `damaged_upload` where other bytes arrived.
        """
        file = Path(path)
        headers = {"content-type": uploads.media_type(file), "content-length": str(file.stat().st_size)}
        digest = uploads.sha256(file)
        if file.stat().st_size >= resumable.FROM_BYTES:
            what = {"purpose": "dataset", "filename": name or file.name, "filetype": headers["content-type"]}
            return self.get(resumable.send(self._transport, file, digest, what, moved)["dataset_id"])
        sent = 0

        def body() -> Iterator[bytes]:
            nonlocal sent
            moved(-sent)
            sent = 0
            for piece in uploads.chunks(file):
                yield piece
                sent += len(piece)
                moved(len(piece))

        # A second try makes at most a second name for the same bytes.
        answer = self._transport.json(
            "POST", "/v1/datasets", params={"name": name or file.name}, body=body, headers=headers, repeatable=True
        )
        dataset = types.Dataset.model_validate(answer)
        if dataset.sha256 != digest:
            self.delete(dataset.id)
            raise LadapressError.local(
                "damaged_upload",
                f"{file}: sha256 {digest} here, {dataset.sha256} at the service; was it changed meanwhile?",
                retryable=True,
            )
        return dataset

    def get(self, dataset_id: str) -> types.Dataset:
        """One dataset."""
        return types.Dataset.model_validate(self._transport.json("GET", place("datasets", dataset_id)))

    def list(self, *, limit: int = 20, after: str | None = None) -> types.DatasetList:
        """Newest first; `after` is the last id of the page before."""
        return types.DatasetList.model_validate(self._transport.page("/v1/datasets", limit, after))

    def delete(self, dataset_id: str) -> None:
        """Delete a dataset; refused while a job needs it."""
        self._transport.json("DELETE", place("datasets", dataset_id))
