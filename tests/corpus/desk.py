"""Submissions over real HTTP to a real server with a real inspecting process; workers that train there are none."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from jobs.settings import Settings
from tests.api.live import Live, serve
from tests.corpus import made
from worker.node import Node

MEDIA = {"csv": "text/csv", "jsonl": "application/jsonl", "parquet": "application/vnd.apache.parquet"}


class RefusedEarlier(Exception):
    """An upload was refused: the answer to the submission that it was for."""

    def __init__(self, answer: httpx2.Response) -> None:
        super().__init__(answer.text)
        self.answer = answer


@dataclass
class Desk:
    """Uploads what a submission needs and sends it. Whatever a caller does not name is good."""

    live: Live
    client: httpx2.Client
    seconds: float = 0.0  # that the answer of the last submission took
    _known: dict[Any, str] = field(default_factory=dict)

    def model(self, files: made.Files | None = None) -> str:
        files = files or made.model()
        known = tuple(sorted(files.items()))
        if known not in self._known:
            answer = self._sent(self.client.post("/v1/models", json={"files": [{"path": name} for name in files]}))
            for name, content in files.items():
                self._sent(self.client.put(f"/v1/models/{answer['id']}/files/{name}", content=content))
            self._known[known] = answer["id"]
        return self._known[known]

    def dataset(self, content: bytes, format_: str = "csv") -> str:
        known = (format_, content)
        if known not in self._known:
            headers = {"content-type": MEDIA.get(format_, format_)}
            self._known[known] = self._sent(self.client.post("/v1/datasets", content=content, headers=headers))["id"]
        return self._known[known]

    def submit(
        self,
        files: made.Files | None = None,
        train: bytes | None = None,
        graded: bytes | None = None,
        format_: str = "csv",
        more: dict[str, bytes] | None = None,
        columns: dict[str, str] | None = None,
        raw: str | None = None,
        **fields: Any,
    ) -> httpx2.Response:
        """The first refusal on the way to a job, or the answer of POST /v1/jobs.

        Args:
            graded: `eval`; both files have the format.
            more: further roles.
            raw: the body, with MODEL, TRAIN and EVAL for the ids.
            fields: of the request; the preset is ladabert-1 where neither it nor a recipe is given.
        """
        begun = time.perf_counter()
        try:
            model = fields.pop("model", None) or self.model(files)
            named = {"train": train or made.TRAIN, "eval": graded or made.EVAL, **(more or {})}
            data: dict[str, Any] = {
                role: self.dataset(
                    content, format_ if (role == "train" and train) or (role == "eval" and graded) else "csv"
                )
                if role in ("train", "eval")
                else self.dataset(content, format_)
                for role, content in named.items()
            }
        except RefusedEarlier as refused:
            self.seconds = time.perf_counter() - begun
            return refused.answer
        data |= fields.pop("data", {})
        if columns:
            data["columns"] = columns
        if "recipe" not in fields:
            fields.setdefault("preset", "ladabert-1")
        begun = time.perf_counter()
        if raw is not None:
            for name, value in (("MODEL", model), ("TRAIN", data["train"]), ("EVAL", data["eval"])):
                raw = raw.replace(name, value)
            answer = self.client.post("/v1/jobs", content=raw, headers={"content-type": "application/json"})
        else:
            answer = self.client.post("/v1/jobs", json={"model": model, "data": data, **fields})
        self.seconds = time.perf_counter() - begun
        return answer

    @staticmethod
    def _sent(answer: httpx2.Response) -> dict[str, Any]:
        if answer.status_code >= 400:
            raise RefusedEarlier(answer)
        found: dict[str, Any] = answer.json()
        return found


@contextmanager
def desk(settings: Settings) -> Iterator[Desk]:
    """A service that runs until the context ends."""
    node = Node(settings, ("inspection",))
    node.start()
    node.poll(0.1, wait=True)
    try:
        with serve(settings) as live, live.client() as client:
            yield Desk(live, client)
    finally:
        node.close()
