"""What the worker's tests stand on: a migrated database, a store, jobs for the fake engine, worker processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from jobs import service
from jobs.db import connect
from jobs.requests import JobRequest
from jobs.scope import Scope
from jobs.settings import Settings
from jobs.states import TERMINAL, State
from jobs.stores import open_store
from jobs.tables import Artifact, ArtifactFile, Event, Job
from tests.worker import fake_engine
from tests.worker.fake_engine import Wish
from worker import kernel
from worker.node import Node

START = Path(__file__).with_name("start.py")
ENGINE = (sys.executable, "-I", str(Path(__file__).with_name("fake_engine.py")))
SCOPE = Scope()
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@dataclass
class Scene:
    """A service without an API. `settings` is what worker processes are started with."""

    settings: Settings

    def __post_init__(self) -> None:
        self.db = connect(self.settings)
        self.store = open_store(self.settings)

    def submit(
        self,
        *,
        limits: dict[str, Any] | None = None,
        judged: bool = False,
        asked: dict[str, Any] | None = None,
        **wish: Any,
    ) -> str:
        """A job whose training file tells the fake engine what to do. Each has files of its own.

        `asked`: fields of the request in place of the preset.

        With `judged` its inspection is done already, so that no worker is needed for that.
        """
        with self.db.sessions.begin() as s:
            request = self._request(s, wish, {**(asked or {}), "limits": limits or {}})
            if judged:
                service.request_inspection(s, SCOPE, request.inspection())
                held = service.claim_inspection(s, "test", 60)
                assert held is not None
                service.finish_inspection(s, held.inspection_id, held.fence, fake_engine.inspect(Wish())["verdict"])
            job = service.submit(s, SCOPE, request)
        return str(job.id)

    def ask(self, **wish: Any) -> str:
        """An inspection that somebody asked for by itself."""
        with self.db.sessions.begin() as s:
            request = self._request(s, wish, {})
            return service.request_inspection(s, SCOPE, request.inspection(), sample=True).id

    def _request(self, s: Session, wish: dict[str, Any], fields: dict[str, Any]) -> JobRequest:
        content = json.dumps(wish).encode() + b"\n" * int(time.monotonic_ns() % 10_000)
        blob = self.store.put_stream(SCOPE.project_id, [content], max_bytes=1 << 20)
        model = service.create_model(s, SCOPE, None, [service.DeclaredFile("config.json")])
        service.file_arrived(s, SCOPE, model.id, "config.json", blob, blob.size)
        data = service.create_dataset(s, SCOPE, None, "csv", blob)
        files = {"model": model.id, "data": {"train": data.id, "eval": data.id}}
        preset = {} if "recipe" in fields else {"preset": "ladabert-1"}
        return JobRequest.model_validate({**files, **preset, **fields})

    def cancel(self, job_id: str) -> None:
        with self.db.sessions.begin() as s:
            service.cancel(s, SCOPE, job_id)

    def job(self, job_id: str) -> Job:
        with self.db.readers() as s:
            return s.get_one(Job, job_id)

    def wait(self, job_id: str, *states: State, within_s: float = 60) -> Job:
        """The job, once it is in one of the states (by default a terminal one)."""
        wanted = states or tuple(TERMINAL)
        until(
            lambda: self.job(job_id).state in wanted, within_s, lambda: f"{self.job(job_id).state} {self.told(job_id)}"
        )
        return self.job(job_id)

    def wait_started(self, job_id: str, attempt: int = 1) -> Job:
        """The job, once this attempt's child has said something."""
        until(lambda: self.job(job_id).attempt == attempt and self.job(job_id).stage == "distill", 60)
        return self.job(job_id)

    def wait_claimable(self, job_id: str) -> None:
        """Until the job's inspection let it go."""
        until(lambda: self.job(job_id).claimable, 60, lambda: self.job(job_id).error)

    def freeze(self, process: subprocess.Popen[bytes], job_id: str) -> None:
        """SIGSTOP while the process holds no lock on the job: it could not be reclaimed before the lock is."""
        frozen = False
        while not frozen:
            with self.db.sessions.begin() as s:
                s.execute(update(Job).where(Job.id == job_id).values(priority=Job.priority))
                process.send_signal(signal.SIGSTOP)
                frozen = self.settings.broker_url is None or s.scalars(text(WAITING)).one() == 0
            if not frozen:
                process.send_signal(signal.SIGCONT)

    def told(self, job_id: str) -> list[tuple[str, dict[str, Any]]]:
        """Its events, in order."""
        with self.db.readers() as s:
            rows = s.scalars(select(Event).where(Event.job_id == job_id).order_by(Event.seq))
            return [(row.type, row.data) for row in rows]

    def artifacts(self, job_id: str) -> list[dict[str, bytes]]:
        """The delivered files, read from the store."""
        with self.db.readers() as s:
            ids = s.scalars(select(Artifact.id).where(Artifact.job_id == job_id).order_by(Artifact.point)).all()
            return [self._files(s.scalars(select(ArtifactFile).where(ArtifactFile.artifact_id == id_))) for id_ in ids]

    def count(self, table: type[Any]) -> int:
        with self.db.readers() as s:
            return s.scalars(select(func.count()).select_from(table)).one()

    def groups(self) -> list[tuple[int, int]]:
        """(pid, start time) of every child that a worker has recorded and that lives."""
        found = []
        for path in self.settings.work_dir.glob("*/groups.jsonl"):
            for line in path.read_text().splitlines():
                known = json.loads(line)
                if kernel.process_start(known["pid"]) == known["start"]:
                    found.append((known["pid"], known["start"]))
        return found

    def busy_group(self) -> int:
        """The group of the one child that writes into its `out` folder: the one that runs a job."""
        (group,) = [pid for pid, _ in self.groups() if list((Path(f"/proc/{pid}/cwd")).resolve().glob("out/*"))]
        return group

    def _files(self, rows: Any) -> dict[str, bytes]:
        found = {}
        for row in rows:
            with self.store.open(row.project_id, row.sha256) as file:
                found[row.path] = file.read()
        return found


@contextmanager
def worker(
    scene: Scene, *options: str, only_jobs: bool = False, stderr: IO[bytes] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A worker process as an operator starts it, but with the fake engine. Drained at the end, if it still runs.

    With `only_jobs` and a broker, it is one of the two processes that the operator's would start.
    """
    node = ("--node", "job", "--parent", str(os.getpid())) if only_jobs and scene.settings.broker_url else ()
    process = subprocess.Popen(
        [sys.executable, str(START), *node, *options],
        env={**os.environ, **scene.settings.environment()},
        stderr=stderr,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            code = process.wait(60)
            assert code == 0, f"the worker left with {code}"


@contextmanager
def rescuer(scene: Scene, *engine: str) -> Iterator[Node]:
    """A second worker, within this process: it looks at the table. `engine` are more arguments of its children."""
    node = Node(scene.settings, ("job",), (*ENGINE, *engine))
    node.start()
    node.poll(0.25, wait=True)
    try:
        yield node
    finally:
        node.close()


def members(group: int) -> list[int]:
    """The processes of a group, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and kernel.process_start(int(entry.name)) is not None:
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[2]) == group:
                found.append(int(entry.name))
    return found


def until(holds: Callable[[], bool], within_s: float, say: Callable[[], object] = lambda: "") -> None:
    """Wait for a condition. The limit is for a test that would hang, never a measurement."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, say()
        time.sleep(0.05)
