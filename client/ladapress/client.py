"""`Client`: the whole HTTP interface as plain calls that return typed objects.

client = Client()
model = client.models.upload("my-bert")
train, evaluation = client.datasets.upload("train.csv"), client.datasets.upload("eval.csv")
job = client.jobs.create(model=model.id, train=train.id, eval=evaluation.id, preset="ladabert-3")
job = client.jobs.wait(job.id)
client.artifacts.download(job.points[0].artifact_id, "my-small-bert")
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx2

from ladapress import events, types, uploads
from ladapress.download import Moved, fetch
from ladapress.errors import LadapressError
from ladapress.transport import Transport

DEFAULT_URL = "http://127.0.0.1:8642"


def _nobody(count: int) -> None:
    """Nobody wants to know how many bytes moved."""


class Client:
    """A connection to one service. Use as a context manager, or call `close`.

    Args:
        url: address of the service; LADAPRESS_URL, else http://127.0.0.1:8642.
        api_key: LADAPRESS_API_KEY where None; a keyless loopback service needs none.
        patience_s: how long a request is retried while the service does not answer.
        handler: httpx2 transport used instead of the network (tests, proxies).
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        patience_s: float = 30.0,
        handler: httpx2.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(
            url or os.environ.get("LADAPRESS_URL") or DEFAULT_URL,
            api_key or os.environ.get("LADAPRESS_API_KEY") or None,
            patience_s=patience_s,
            handler=handler,
        )
        self.models = Models(self._transport)
        self.datasets = Datasets(self._transport)
        self.jobs = Jobs(self._transport)
        self.artifacts = Artifacts(self._transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the sockets back."""
        self._transport.close()

    @property
    def url(self) -> str:
        """Address of the service."""
        return self._transport.url

    def methods(self) -> types.MethodList:
        """What a step of a recipe may be."""
        return types.MethodList.model_validate(self._transport.json("GET", "/v1/methods"))

    def presets(self) -> types.PresetList:
        """Recipes with names."""
        return types.PresetList.model_validate(self._transport.json("GET", "/v1/presets"))


class Models:
    """Uploaded models."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(self, folder: str | os.PathLike[str], *, name: str | None = None, moved: Moved = _nobody) -> types.Model:
        """Send a model folder as `save_pretrained` writes it: weights as safetensors, configuration, tokenizer.

        A refused upload is taken back. `moved` is told the bytes as they go.

        Raises:
            LadapressError: `usage` for a folder that is no model; else the service's refusal.
        """
        files = {path.name: path for path in uploads.model_files(Path(folder))}
        declared = [
            {"path": path.name, "size": path.stat().st_size, "sha256": uploads.sha256(path)} for path in files.values()
        ]
        body = {"name": name or Path(folder).resolve().name, "files": declared}
        # A second try may leave an empty model behind; it holds no bytes.
        model = types.Model.model_validate(self._transport.json("POST", "/v1/models", json=body, repeatable=True))
        try:
            for missing in model.missing:
                self._put(model.id, files[missing], moved)
        except BaseException:
            with suppress(LadapressError):
                self.delete(model.id)
            raise
        return self.get(model.id)

    def _put(self, model_id: str, path: Path, moved: Moved) -> None:
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
        self._transport.json("PUT", f"/v1/models/{model_id}/files/{quote(path.name)}", body=body, headers=headers)

    def get(self, model_id: str) -> types.Model:
        """One model."""
        return types.Model.model_validate(self._transport.json("GET", f"/v1/models/{model_id}"))

    def list(self, *, limit: int = 20, after: str | None = None) -> types.ModelList:
        """Newest first; `after` is the last id of the page before."""
        return types.ModelList.model_validate(_page(self._transport, "/v1/models", limit, after))

    def delete(self, model_id: str) -> None:
        """Delete a model; refused while a job needs it."""
        self._transport.json("DELETE", f"/v1/models/{model_id}")


class Datasets:
    """Uploaded labelled text."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(self, path: str | os.PathLike[str], *, name: str | None = None, moved: Moved = _nobody) -> types.Dataset:
        """Send one CSV, JSONL or Parquet file; its name tells the format.

        Raises:
            LadapressError: `usage` for a name that tells no format, `damaged_upload` where other bytes arrived.
        """
        file = Path(path)
        headers = {"content-type": uploads.media_type(file), "content-length": str(file.stat().st_size)}
        digest = uploads.sha256(file)
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
        return types.Dataset.model_validate(self._transport.json("GET", f"/v1/datasets/{dataset_id}"))

    def list(self, *, limit: int = 20, after: str | None = None) -> types.DatasetList:
        """Newest first; `after` is the last id of the page before."""
        return types.DatasetList.model_validate(_page(self._transport, "/v1/datasets", limit, after))

    def delete(self, dataset_id: str) -> None:
        """Delete a dataset; refused while a job needs it."""
        self._transport.json("DELETE", f"/v1/datasets/{dataset_id}")


class Jobs:
    """Compressions."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        model: str,
        train: str,
        eval: str,  # noqa: A002  # the interface's own word
        idempotency_key: str | None = None,
        **options: Any,
    ) -> types.Job:
        """Start a compression. Sent again after a lost connection, it is still one job.

        Args:
            model: id of a model that is ready.
            train: id of the training rows.
            eval: id of the rows that measure the result.
            idempotency_key: the same key and request give the same job; a random one where None.
            options: the other fields of `types.JobRequest` (preset, recipe, target, metric, seed, ...), and
                `select` and `columns` of its `data`. What is left out, the service decides.

        Raises:
            LadapressError: the service's refusal, with the field at fault in `problem.param`.
        """
        data = {"train": train, "eval": eval}
        data |= {field: options.pop(field) for field in ("select", "columns") if field in options}
        return self.submit({"model": model, "data": data, **options}, idempotency_key=idempotency_key)

    def submit(self, request: Mapping[str, Any], *, idempotency_key: str | None = None) -> types.Job:
        """`create` with the request body as the interface spells it; fields that are None are left out."""
        headers = {"idempotency-key": idempotency_key or uuid.uuid4().hex}
        return types.Job.model_validate(
            self._transport.json("POST", "/v1/jobs", json=_given(request), headers=headers, repeatable=True)
        )

    def get(self, job_id: str) -> types.Job:
        """One job as it is now."""
        return events.get(self._transport, job_id)

    def list(self, *, limit: int = 20, after: str | None = None) -> types.JobList:
        """Newest first; `after` is the last id of the page before."""
        return types.JobList.model_validate(_page(self._transport, "/v1/jobs", limit, after))

    def cancel(self, job_id: str) -> types.Job:
        """Ask a job to stop; it is `cancelling` until its processes are gone."""
        return types.Job.model_validate(self._transport.json("POST", f"/v1/jobs/{job_id}/cancel", repeatable=True))

    def delete(self, job_id: str) -> None:
        """Delete an ended job with its artifacts."""
        self._transport.json("DELETE", f"/v1/jobs/{job_id}")

    def events(self, job_id: str, *, after: int = 0) -> Iterator[types.JobEvent]:
        """What happens to a job, from event number `after` on, until it has ended. Survives cut connections."""
        return events.follow(self._transport, job_id, after=after)

    def wait(
        self,
        job_id: str,
        *,
        timeout_s: float | None = None,
        on_event: Callable[[types.JobEvent], None] | None = None,
    ) -> types.Job:
        """The job when it has ended, however it ended.

        Raises:
            LadapressError: `timeout` after `timeout_s` seconds; the job goes on.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        if deadline is None:
            for event in self.events(job_id):
                if on_event is not None:
                    on_event(event)
            return self.get(job_id)
        return self._wait_until(job_id, deadline, on_event)

    def _wait_until(self, job_id: str, deadline: float, on_event: Callable[[types.JobEvent], None] | None) -> types.Job:
        # A stream blocks for as long as nothing happens, so a deadline is held by polling.
        after = 0
        while True:
            job = self.get(job_id)
            for event in events.page(self._transport, job_id, after):
                after = event.seq
                if on_event is not None:
                    on_event(event)
            if job.status in events.TERMINAL:
                return job
            if time.monotonic() >= deadline:
                raise LadapressError.local("timeout", f"{job_id} is still {job.status}", retryable=True)
            time.sleep(min(0.5, max(0.0, deadline - time.monotonic())))


class Artifacts:
    """Delivered models."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, artifact_id: str) -> types.Artifact:
        """One artifact with its files, their sizes and digests."""
        return types.Artifact.model_validate(self._transport.json("GET", f"/v1/artifacts/{artifact_id}"))

    def download(self, artifact_id: str, folder: str | os.PathLike[str], *, moved: Moved = _nobody) -> tuple[Path, ...]:
        """Fetch all files into `folder`, each checked by its sha256 before any of them gets its name.

        Raises:
            LadapressError: `damaged_download`; see `ladapress.download.fetch`.
        """
        return fetch(self._transport, self.get(artifact_id), Path(folder), moved)


def _page(transport: Transport, path: str, limit: int, after: str | None) -> Any:
    return transport.json("GET", path, params={"limit": limit, **({"after": after} if after else {})})


def _given(request: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _given(value) if isinstance(value, Mapping) else value
        for name, value in request.items()
        if value is not None
    }
