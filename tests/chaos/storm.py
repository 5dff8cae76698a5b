"""Many jobs through the real API and real workers while workers, Redis and PostgreSQL are killed (D1).

Every submit has an Idempotency-Key and is sent again until it is answered 201. Afterwards `wrong` reads the database,
the store and /proc: what it finds is a broken promise.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from demo import ephemeral
from jobs.db import upgrade
from jobs.settings import Settings
from jobs.states import TERMINAL, State
from jobs.tables import Event, Job
from tests.chaos import servers
from tests.chaos.crew import Crew, left
from tests.chaos.doubt import doubt
from tests.worker.conftest import QUICK
from tests.worker.scene import Scene, until

# What the fake engine is asked to do; every dataset holds one of these.
WISHES: tuple[dict[str, Any], ...] = (
    {"steps": 3},
    {"steps": 20, "step_s": 0.05, "keep_at": 5},
    {"steps": 5, "step_s": 0.05, "spawn": True},
    {"steps": 3, "babble": True},
)
MAX_ATTEMPTS = 3  # the service's own default
SUBMITTERS = 3
PACE_S = 1.0  # before each submit of a submitter
ROOT = Path(__file__).parents[2]
PAUSES = (2.5, 5)  # of a sleeping holder, in leases
SETTLED_S = 120.0  # after the last fault


@dataclass
class Storm:
    """What happened: accepted job ids by key, kills by what was killed."""

    scene: Scene
    accepted: dict[str, str] = field(default_factory=dict)
    refused: Counter[int] = field(default_factory=Counter)  # answers that were not 201, by status
    kills: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)  # COMMITs without an answer
    seconds: float = 0.0
    silences: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """One line of figures. Silences: seconds from the last word of a lost attempt to the first of the next."""
        p50, p99 = (round(float(np.percentile(self.silences or [0.0], share)), 2) for share in (50, 99))
        return {
            "jobs": len(self.accepted), "kills": dict(self.kills), "cut": dict(self.cut), "not_201": dict(self.refused),
            "attempts_lost": len(self.silences), "silence_s_p50": p50, "silence_s_p99": p99,
            "seconds": round(self.seconds, 1),
        }  # fmt: skip


@contextmanager
def place(
    form: str, folder: Path, *, away_s: float = 1.0, attempts: int = MAX_ATTEMPTS
) -> Iterator[tuple[Settings, dict[str, Any]]]:
    """Settings of a service of its own, and the servers that may be killed, by name.

    Forms: "embedded" is SQLite, "celery" PostgreSQL and Redis, "postgresql" that alone.
    """
    fields: dict[str, Any] = {
        **QUICK, "data_dir": folder, "port": ephemeral.free_port(), "rate_limits": False, "inspect_wait_s": 0.01,
        "max_attempts": attempts,
    }  # fmt: skip
    with ExitStack() as stack:
        killed: dict[str, Any] = {}
        if form != "embedded":
            killed["postgresql"] = stack.enter_context(servers.postgresql(away_s=away_s))
            fields["database_url"] = killed["postgresql"].url
        if form == "celery":
            killed["redis"] = stack.enter_context(servers.redis(away_s=away_s))
            fields |= {"broker_url": killed["redis"].url, "celery_prefix": "chaos-"}
        settings = Settings(**fields)
        upgrade(settings)
        yield settings, killed


def storm(
    form: str,
    folder: Path,
    *,
    jobs: int,
    every_s: Mapping[str, float],
    seed: int,
    workers: int = 2,
    wishes: Sequence[Mapping[str, Any]] = WISHES,
    unfenced: bool = False,
    doubtful: float = 0.0,
    clocks: Sequence[float] = (0.0,),
    attempts: int = MAX_ATTEMPTS,
) -> Storm:
    """Submit so many jobs while each target of `every_s` is struck about that often, and wait until all have ended.

    Targets: a worker is killed, or put to sleep past its lease ("pause"); a server is killed. `broken` of what is
    returned holds every promise that was not kept. `unfenced`: the negative control, see `start.py`. `doubtful`: the
    share of COMMITs, of the API and of workers, that PostgreSQL does not answer. `clocks`: of the
    workers' machines, see `Crew`. `attempts`: after so many that were lost a job may end as `worker_lost`; beyond the
    default none may.
    """
    rng, stop = random.Random(seed), threading.Event()
    with ExitStack() as stack:
        settings, killed = stack.enter_context(place(form, folder, attempts=attempts))
        made = Storm(Scene(settings))
        environment = {**settings.environment(), "CHAOS_NOTES": str(folder / "notes")}
        environment |= {"CHAOS_UNFENCED": "1"} if unfenced else {}
        between = stack.enter_context(doubt(settings.database_url, seed)) if doubtful else None
        if between is not None:
            environment["LADAPRESS_DATABASE_URL"] = between.url
            made.cut = between.cut
        with api(environment):
            post = Poster(f"http://127.0.0.1:{settings.port}", made)
            post.wait()
            if between is not None:
                between.share = doubtful
            crew = Crew(workers, environment, clocks=clocks)
            began = time.monotonic()
            try:
                inputs = post.inputs(wishes)
                strikes = threading.Thread(target=strike, args=(made, crew, killed, every_s, rng, stop))
                strikes.start()
                try:
                    post.submit(inputs, jobs)
                    until(
                        lambda: len(ended(made.scene)) >= jobs,
                        SETTLED_S + 2 * jobs,
                        lambda: Counter(states(made.scene)),
                    )
                finally:
                    stop.set()
                    strikes.join()
                crew.tend()
                until(lambda: len(ended(made.scene)) >= jobs, SETTLED_S, lambda: Counter(states(made.scene)))
            finally:
                made.seconds = time.monotonic() - began
                crew.leave()
        made.broken = wrong(made, jobs, attempts)
        made.silences = silences(made.scene)
        made.scene.db.dispose()
    return made


@contextmanager
def api(environment: Mapping[str, str]) -> Iterator[None]:
    """The API in a process of its own; its log lies in the data folder."""
    folder = Path(environment["LADAPRESS_DATA_DIR"])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "api.log").open("w") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", "api"], env={**os.environ, **environment}, stdout=log, stderr=log, cwd=ROOT
        )
        try:
            yield
        finally:
            running.terminate()
            running.wait(30)


def strike(
    made: Storm, crew: Crew, killed: Mapping[str, Any], every_s: Mapping[str, float], rng: random.Random,
    stop: threading.Event,
) -> None:  # fmt: skip
    """Kill by the clock, in an order that the seed gives; the dead workers are replaced twice a second."""
    due = {name: time.monotonic() + pause * rng.uniform(0.5, 1.5) for name, pause in every_s.items()}
    while not stop.wait(0.1):
        for name, pause in every_s.items():
            if time.monotonic() >= due[name]:
                due[name] = time.monotonic() + pause * rng.uniform(0.5, 1.5)
                made.kills[name] += 1
                if name == "worker":
                    crew.kill_one(rng)
                elif name == "pause":
                    crew.pause_one(rng, rng.uniform(*PAUSES) * made.scene.settings.lease_s)
                else:
                    killed[name].kill()
        crew.tend()


class Poster:
    """A client as simple as one can be: the same request under the same key until it is answered 201."""

    def __init__(self, url: str, made: Storm, headers: Mapping[str, str] | None = None) -> None:
        self._url, self._made, self._lock, self._headers = url, made, threading.Lock(), headers

    def _until_done(self, client: httpx2.Client, method: str, path: str, **request: Any) -> Any:
        for _ in range(600):
            try:
                answer = client.request(method, path, **request)
            except httpx2.TransportError:
                time.sleep(0.2)
                continue
            if answer.is_success:
                return answer.json()
            with self._lock:
                self._made.refused[answer.status_code] += 1
            assert answer.status_code in (409, 503), answer.text  # the first is still under way; the database is away
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"]
            time.sleep(0.2)
        raise AssertionError(f"{method} {path}: never done")

    def wait(self) -> None:
        """Until the API answers."""
        with httpx2.Client(base_url=self._url, timeout=20) as client:
            until(lambda: answers(client), 60)

    def inputs(self, wishes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """A model, and a body for each wish."""
        with httpx2.Client(base_url=self._url, timeout=20, headers=self._headers) as client:
            files = {"files": [{"path": "config.json"}]}
            model = self._until_done(client, "POST", "/v1/models", json=files, headers={"idempotency-key": "m"})["id"]
            self._until_done(client, "PUT", f"/v1/models/{model}/files/config.json", content=b"{}")
            bodies = []
            for wish in wishes:
                sent = json.dumps(wish).encode()
                headers = {"content-type": "text/csv", "idempotency-key": f"d{len(bodies)}"}
                data = self._until_done(client, "POST", "/v1/datasets", content=sent, headers=headers)["id"]
                rows = {"train": data, "eval": data}
                bodies.append({"model": model, "data": rows, "preset": "ladabert-1", "cache": "bypass"})
            return bodies

    def submit(self, bodies: list[dict[str, Any]], jobs: int, begin: int = 0) -> None:
        """Those of these numbers, from several threads."""

        def work(first: int) -> None:
            with httpx2.Client(base_url=self._url, timeout=20) as client:
                for number in range(begin + first, jobs, SUBMITTERS):
                    time.sleep(PACE_S)  # so that some come while something is away
                    key, body = f"key-{number}", {**bodies[number % len(bodies)], "seed": number}
                    job = self._until_done(client, "POST", "/v1/jobs", json=body, headers={"idempotency-key": key})
                    with self._lock:
                        self._made.accepted[key] = job["id"]

        threads = [threading.Thread(target=work, args=(first,)) for first in range(SUBMITTERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def answers(client: httpx2.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx2.TransportError:
        return False


def states(scene: Scene) -> list[State]:
    """Of all jobs; none while the database is away."""
    try:
        with scene.db.readers() as s:
            return list(s.scalars(select(Job.state)))
    except SQLAlchemyError:  # it was killed a moment ago
        return []


def ended(scene: Scene) -> list[State]:
    return [state for state in states(scene) if state in TERMINAL]


def wrong(made: Storm, jobs: int, attempts: int = MAX_ATTEMPTS) -> list[str]:
    """Every promise that was broken, in words."""
    scene = made.scene
    with scene.db.readers() as s:
        rows = {row.id: row for row in s.scalars(select(Job))}
    found = [] if len(set(made.accepted.values())) == jobs else ["two keys gave one job, or one was never accepted"]
    found += [f"{job} was accepted and is gone" for job in made.accepted.values() if job not in rows]
    found += [f"{job} was never asked for" for job in rows.keys() - set(made.accepted.values())]
    for job, row in rows.items():
        told = [data for kind, data in scene.told(job) if kind == "state"]
        last = [data["state"] for data in told if State(data["state"]) in TERMINAL]
        lost = (row.error or {}).get("code") == "worker_lost" and row.attempt == MAX_ATTEMPTS == attempts
        if row.state is not State.SUCCEEDED and not lost:
            found.append(f"{job} ended as {row.state} {row.error} after {row.attempt} attempts")
        if last != [row.state.value]:
            found.append(f"{job} ended {len(last)} times: {last}")
        if row.attempt > attempts:
            found.append(f"{job} was tried {row.attempt} times")
        found += artifacts(scene, job, row.state)
        with scene.db.readers() as s:
            numbers = s.scalars(select(Event.seq).where(Event.job_id == job).order_by(Event.seq)).all()
        if numbers != list(range(1, len(numbers) + 1)):
            found.append(f"{job}: events {numbers}")
    return [*left(str(scene.settings.data_dir)), *found, *stale(scene)]


def artifacts(scene: Scene, job: str, state: State) -> list[str]:
    """One of a job that succeeded, none of another; every file is what the manifest says."""
    delivered = scene.artifacts(job)
    if len(delivered) != (state is State.SUCCEEDED):
        return [f"{job} is {state} with {len(delivered)} artifacts"]
    return [
        f"{job}: {name} is not what the manifest names"
        for files in delivered
        for name, entry in json.loads(files["manifest.json"])["files"].items()
        if hashlib.sha256(files[name]).hexdigest() != entry["sha256"]
    ]


def stale(scene: Scene) -> list[str]:
    """Publishes that the database took from somebody who no longer held the job."""
    notes = scene.settings.data_dir / "notes"
    taken = [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []
    return [
        f"{note['job']}: published under fence {note['fence']}, held under {scene.job(note['job']).fence}"
        for note in taken
        if note["fence"] != scene.job(note["job"]).fence
    ]


def silences(scene: Scene) -> list[float]:
    """Seconds from the last word of a lost attempt to the first of the next, smallest first."""
    found = []
    with scene.db.readers() as s:
        rows = s.execute(select(Event.job_id, Event.at, Event.type, Event.data).order_by(Event.job_id, Event.seq)).all()
    last: dict[str, float] = {}
    begun: Counter[str] = Counter()
    for job, at, kind, data in rows:
        if kind == "state" and data["state"] == "queued":
            continue
        if kind == "state" and data["state"] == "running":
            begun[job] += 1
            if begun[job] > 1:
                found.append(at - last[job])
        last[job] = at
    return sorted(found)
