"""Pushing as an operator starts it: beside an embedded worker, beside Celery's processes, alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from jobs.settings import Settings
from jobs.tables import Push
from tests.chaos.crew import children
from tests.worker.conftest import MakeScene
from tests.worker.hub import GITATTRIBUTES, Hub, hub
from tests.worker.pushing import TOKEN, PushScene, artifact_files
from tests.worker.scene import Scene, until, worker
from worker import kernel


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub(TOKEN) as made:
        yield made


def registries(folder: Path, server: Hub) -> Path:
    file = folder / "registries.toml"
    (folder / "token").write_text(TOKEN)
    table = f'kind = "huggingface"\nurl = "{server.url}"\ntoken_file = "{folder}/token"\nprefixes = ["acme/"]\n'
    file.write_text(f"[hub]\n{table}")
    return file


def pushes(scene: Scene | PushScene) -> list[Push]:
    database = scene.world.db if isinstance(scene, PushScene) else scene.db
    with database.readers() as s:
        return list(s.scalars(select(Push)))


def test_a_worker_pushes_what_its_jobs_publish(make_scene: MakeScene, form: str, server: Hub, tmp_path: Path) -> None:
    """From the job's request to the repository, with nothing else asked for."""
    scene = make_scene(form, registries_file=registries(tmp_path, server))
    asked = {"preset": "ladabert-1", "push": {"registry": "hub", "to": "acme/small"}}
    with worker(scene):
        job = scene.wait(scene.submit(asked=asked))
        assert job.state.value == "succeeded", job.error
        until(lambda: [row.state for row in pushes(scene)] == ["succeeded"], 60, lambda: pushes(scene)[0].error)
    (files,) = scene.artifacts(job.id)
    assert server.files("acme/small") == {**files, ".gitattributes": GITATTRIBUTES}


@pytest.fixture
def alone(server: Hub, tmp_path: Path, sqlite_url: str) -> Iterator[tuple[PushScene, subprocess.Popen[bytes]]]:
    """`python -m worker --only push` on a database with a queued push. A secret of the operator's stands around."""
    scene = PushScene.make(tmp_path, sqlite_url, registries(tmp_path, server).read_text())
    environment = {**os.environ, **scene.settings.environment()}
    environment |= {"HF_TOKEN": "hf_somebodyElses", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "worker", "--only", "push"]
    process = subprocess.Popen(command, env=environment, cwd=Path(__file__).parents[2], start_new_session=True)
    yield scene, process
    process.kill()
    process.wait()


def test_alone_it_pushes_and_takes_no_job(alone: tuple[PushScene, subprocess.Popen[bytes]], server: Hub) -> None:
    """And ends by TERM with 0."""
    scene, process = alone
    files = artifact_files()
    art = scene.artifact(files)
    waiting = scene.world.ready().id
    push = scene.ask(art)
    until(lambda: scene.row(push).state == "succeeded", 60, lambda: scene.row(push).error)
    assert server.files("acme/small") == {**files, ".gitattributes": GITATTRIBUTES}
    assert scene.world.job(waiting).state.value == "queued"
    process.terminate()
    assert process.wait(30) == 0


def test_a_killed_pusher_takes_its_child_along_and_the_next_one_goes_on(
    alone: tuple[PushScene, subprocess.Popen[bytes]], server: Hub
) -> None:
    """kill -9 in the middle of the hub's answer; nobody commits afterwards, and nothing is lost."""
    import threading

    scene, process = alone
    arrived, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        server.on_commit = lambda: None
        arrived.set()
        let_go.wait(60)

    server.on_commit = hold
    push = scene.ask(scene.artifact())
    assert arrived.wait(60)
    (child,) = children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: kernel.process_start(child) is None, 30)
    let_go.set()
    assert scene.row(push).state == "running"
    until(scene.once, 30)  # when the lease has run out
    row = scene.row(push)
    assert (row.state, row.attempt) == ("succeeded", 2)
    assert len(server.repositories["acme/small"].commits) == 2


def test_a_worker_does_not_start_on_a_file_that_is_not_in_order(tmp_path: Path) -> None:
    file = tmp_path / "registries.toml"
    file.write_text('[hub]\nkind = "docker"\n')
    named = {"LADAPRESS_DATA_DIR": str(tmp_path / "data"), "LADAPRESS_REGISTRIES_FILE": str(file)}
    for program in (["worker"], ["worker", "--only", "push"], ["api"]):
        done = subprocess.run(
            [sys.executable, "-m", *program], env={**os.environ, **named}, cwd=Path(__file__).parents[2],
            check=False, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode != 0
        assert f"{file}: hub.kind" in done.stderr.strip().splitlines()[-1]
        assert not Settings(data_dir=tmp_path / "data").signing_key_file.exists()
