"""A disk that runs full under a service that works (D21): refusals that say so, nothing by halves, and no restart.

The disk is a small tmpfs, which takes the right to mount. On SQLite the database lies on it as well.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import make_url

from jobs.settings import Settings
from jobs.states import State
from jobs.store import PARTS
from tests.chaos.crew import Crew
from tests.chaos.storm import Poster, Storm, api, artifacts, place
from tests.worker.scene import Scene, until

DISK = "48m"
LARGE = b"x" * (1 << 20)
SLOW = {"steps": 20, "step_s": 0.2, "keep_at": 5}


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this host lets nobody mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Not a byte is left, until the context ends."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(b"0" * size) == size:
                        pass
        yield
    finally:
        ballast.unlink()


@dataclass
class Service:
    """What the tests do with it."""

    disk: Path
    settings: Settings
    scene: Scene
    client: httpx2.Client

    def upload(self, content: bytes) -> httpx2.Response:
        return self.client.post("/v1/datasets", content=content, headers={"content-type": "text/csv"})

    def submit(self, **wish: Any) -> str:
        post = Poster(str(self.client.base_url), Storm(self.scene))
        answer = self.client.post("/v1/jobs", json=post.inputs([wish])[0])
        return str(answer.raise_for_status().json()["id"])

    def parts(self) -> list[Path]:
        return list((self.settings.store_dir / PARTS).glob("*"))


@pytest.fixture(params=["embedded", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    with (
        small_disk(tmp_path / "disk") as disk,
        place(request.param, disk / "data") as (settings, _),
        api({**settings.environment(), "CHAOS_NOTES": str(tmp_path / "notes")}),
        httpx2.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=30) as client,
    ):
        scene = Scene(settings)
        crew = Crew(1, {**settings.environment(), "CHAOS_NOTES": str(tmp_path / "notes")})
        try:
            Poster(str(client.base_url), Storm(scene)).wait()
            yield Service(disk, settings, scene, client)
        finally:
            crew.leave()
            scene.db.dispose()


def refused(answer: httpx2.Response) -> None:
    """In the service's own form, and with the time after which to come back."""
    assert answer.status_code in (503, 507), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["retry-after"]
    assert answer.json()["code"] in ("storage_full", "unavailable")


def test_what_does_not_fit_is_refused_and_leaves_nothing(service: Service) -> None:
    """While the disk is full, reads are answered and writes refused; afterwards all goes on as before."""
    kept = service.upload(b"text,label\nkept,1\n").raise_for_status().json()
    with filled(service.disk):
        refused(service.upload(LARGE))
        for _ in range(3):
            answer = service.client.post("/v1/models", json={"files": [{"path": "config.json"}]})
            assert answer.status_code == 201 or refused(answer) is None
        assert service.client.get(f"/v1/datasets/{kept['id']}").json()["sha256"] == kept["sha256"]
        assert service.client.get("/healthz").status_code == 200
        assert not service.parts()
    service.upload(LARGE).raise_for_status()
    job = service.submit(steps=3)
    assert service.scene.wait(job).state is State.SUCCEEDED


def test_a_job_under_which_the_disk_runs_full_ends_whole(service: Service) -> None:
    """It succeeds later, or has failed for want of room and succeeds as it is retried; nothing of it lies about."""
    job = service.submit(**SLOW)
    service.scene.wait_started(job)
    with filled(service.disk), contextlib.suppress(AssertionError):
        service.scene.wait(job, within_s=6)  # longer than it takes, and than its lease
    ended = service.scene.wait(job)
    if ended.state is not State.SUCCEEDED:
        assert (ended.state, ended.error["code"]) == (State.FAILED, "storage_full"), ended.error
        again = service.client.post(f"/v1/jobs/{job}/retry", json={}).raise_for_status().json()["id"]
        assert service.scene.wait(again).state is State.SUCCEEDED
        assert not artifacts(service.scene, again, State.SUCCEEDED)
    assert not artifacts(service.scene, job, ended.state)
    assert not service.parts()
    until(lambda: not any(service.settings.work_dir.glob("*/in")), 30)
    url = make_url(service.settings.database_url)
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(url.database))) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
