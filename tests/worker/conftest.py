"""Scenes: embedded on SQLite, Celery on PostgreSQL and Redis."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from demo import ephemeral
from jobs.settings import Settings
from tests.worker.scene import Scene, worker

MakeScene = Callable[..., Scene]
QUICK = {"lease_s": 2, "tick_s": 0.3, "poll_s": 1, "hint_after_s": 2, "kill_grace_s": 1, "threads": 1}
QUICK |= {"webhook_http": True, "webhook_allow": ("127.0.0.0/8",)}  # this machine may be told


def forget(url: str, prefix: str) -> None:
    """Remove the keys of one prefix from a Redis that may be shared."""
    with Redis.from_url(url) as client:
        for key in client.scan_iter(match=f"*{prefix}*", count=1000):
            client.delete(key)


@pytest.fixture(scope="module")
def make_scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeScene]:
    """`make_scene("embedded" | "celery", **settings)`: each with a database, folders and queues of its own."""
    with ExitStack() as stack:

        def make(form: str, **settings: Any) -> Scene:
            folder = tmp_path_factory.mktemp(form)
            fields: dict[str, Any] = {**QUICK, "data_dir": folder, **settings}
            if form == "embedded":
                shutil.copy(request.getfixturevalue("sqlite_template"), folder / "ladapress.db")
            else:
                server = request.getfixturevalue("postgresql_server")
                template = request.getfixturevalue("postgresql_template")
                fields["database_url"] = stack.enter_context(ephemeral.database(server, template=template))
                fields["broker_url"] = request.getfixturevalue("redis_url")
                fields["celery_prefix"] = f"ladapress-test-{secrets.token_hex(6)}-"
                stack.callback(forget, fields["broker_url"], fields["celery_prefix"])
            scene = Scene(Settings(**fields))
            stack.callback(scene.db.dispose)
            return scene

        yield make


@pytest.fixture(scope="module", params=["embedded", "celery"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def scene(make_scene: MakeScene, form: str) -> Iterator[Scene]:
    """A scene with a worker at work, shared by the tests of a module that leave the worker alone."""
    made = make_scene(form)
    with worker(made):
        yield made


@pytest.fixture
def fake_engine() -> Path:
    return Path(__file__).with_name("fake_engine.py")
