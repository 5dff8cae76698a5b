"""A small world for tests of jobs: uploads that need no bytes, verdicts that need no worker."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import delete, update

from jobs import service
from jobs.clock import db_now
from jobs.db import Database
from jobs.ids import new_id
from jobs.requests import JobRequest
from jobs.scope import DEFAULT_PROJECT, Scope
from jobs.settings import Settings
from jobs.store import Blob
from jobs.tables import Base, Inspection, Job, Project

SHAPE = {
    "family": "bert",
    "task": "classification",
    "parameters": 21_000,
    "layers": 1,
    "hidden": 100,
    "labels": ["a", "b"],
    "matrices": [{"name": f"linear{i}", "rows": 100, "cols": 100, "kind": "linear"} for i in range(2)],
}
GOOD: dict[str, Any] = {"ok": True, "error": None, "shape": SHAPE, "rows": {"train": 9, "eval": 3}}
BAD: dict[str, Any] = {
    "ok": False,
    "error": {
        "code": "data_invalid",
        "detail": "train: row 3, column 'text': text is empty",
        "param": "/data/train",
        "errors": [],
        "retryable": False,
    },
    "shape": None,
    "rows": {},
}
POINT = service.PublishedPoint(
    files=[service.PublishedFile("model.onnx", 4, "a" * 64, "application/octet-stream")], report={"retention": 1.0}
)

MOST = 10**6  # bytes of a model


def wipe(db: Database) -> None:
    """Back to the rows that the migrations leave."""
    with db.sessions.begin() as s:
        for table in reversed(Base.metadata.sorted_tables):
            s.execute(delete(table).where(table.c.id != DEFAULT_PROJECT) if table.name == "project" else delete(table))


@dataclass
class World:
    """Uploads in one project, and shortcuts through the service."""

    db: Database
    settings: Settings
    counter: Iterator[int]
    scope: Scope = field(default_factory=Scope)

    def other(self) -> World:
        """The same database, another project."""
        project = new_id("proj")
        with self.db.sessions.begin() as s:
            s.add(Project(id=project, name="other"))
        return replace(self, scope=Scope(project))

    def blob(self) -> Blob:
        """Bytes that nobody needs to have."""
        number = next(self.counter)
        return Blob(hashlib.sha256(f"{number}".encode()).hexdigest(), number)

    def model(self) -> str:
        with self.db.sessions.begin() as s:
            model = service.create_model(s, self.scope, None, [service.DeclaredFile("model.safetensors")])
            service.file_arrived(s, self.scope, model.id, "model.safetensors", self.blob(), MOST)
        return model.id

    def dataset(self) -> str:
        with self.db.sessions.begin() as s:
            return service.create_dataset(s, self.scope, None, "csv", self.blob()).id

    def request(self, **fields: Any) -> JobRequest:
        """A request on uploads of its own, unless some are given."""
        if "model" not in fields:
            fields = {"model": self.model(), "data": {"train": self.dataset(), "eval": self.dataset()}, **fields}
        return JobRequest.model_validate({"preset": "ladabert-1", **fields})

    def submit(self, request: JobRequest | None = None, key: str | None = None) -> Job:
        with self.db.sessions.begin() as s:
            return service.submit(s, self.scope, request or self.request(), key)

    def judge(self, verdict: dict[str, Any] | None = None) -> str:
        """A worker gives its verdict on the oldest inspection."""
        with self.db.sessions.begin() as s:
            held = service.claim_inspection(s, "judge", 60)
            assert held is not None
            assert service.finish_inspection(s, held.inspection_id, held.fence, verdict or GOOD)
        return held.inspection_id

    def judged(self) -> JobRequest:
        """A request whose inputs were found good."""
        request = self.request()
        with self.db.sessions.begin() as s:
            row = service.request_inspection(s, self.scope, request.inspection())
            row.state, row.verdict = "done", GOOD
        return request

    def ready(self) -> Job:
        """A job that may be claimed."""
        return self.submit(self.judged())

    def claim(self, worker: str = "worker", **options: Any) -> service.Claim | None:
        with self.db.sessions.begin() as s:
            return service.claim(s, worker, 60, **options)

    def claimed(self) -> service.Claim:
        """A fresh job, held."""
        self.ready()
        held = self.claim()
        assert held is not None
        return held

    def publish(self, held: service.Claim, points: int = 1) -> bool:
        with self.db.sessions.begin() as s:
            return service.publish(s, held.job_id, held.fence, {"target_met": True}, [POINT] * points)

    def expire(self, job_id: str) -> None:
        """Let the lease of a job, or of an inspection, run out."""
        with self.db.sessions.begin() as s:
            for table in (Job, Inspection):
                held = (table.id == job_id, table.lease_until.is_not(None))
                s.execute(update(table).where(*held).values(lease_until=db_now() - 1))

    def reconcile(self, **settings: Any) -> list[service.Hint]:
        with self.db.sessions.begin() as s:
            return service.reconcile(s, self.settings.model_copy(update=settings))

    def job(self, job_id: str) -> Job:
        with self.db.readers() as s:
            found = s.get(Job, job_id)
        assert found is not None
        return found

    def set(self, job_id: str, **columns: Any) -> None:
        """Put a job where a test needs it, past the table of moves."""
        with self.db.sessions.begin() as s:
            s.execute(update(Job).where(Job.id == job_id).values(**columns))

    def events(self, job_id: str) -> list[service.Told]:
        with self.db.readers() as s:
            return service.events_after(s, self.scope, job_id, limit=10_000)
