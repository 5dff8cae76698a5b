"""A rolling upgrade (D27): the code before the newest migration and this one work on one database, whoever is first."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from demo import ephemeral
from jobs.db import upgrade
from jobs.settings import Settings
from tests.chaos import servers
from tests.chaos.release import ROOT, before_the_newest_migration, started
from tests.chaos.storm import Poster, Storm, ended, states, wrong
from tests.worker.conftest import QUICK
from tests.worker.scene import Scene, until

JOBS, WISH = 60, {"steps": 3}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = before_the_newest_migration(tmp_path_factory.mktemp("before"))
    if found is None:
        pytest.skip("no history here: the code before the newest migration cannot be had")
    return found


@contextmanager
def unmigrated(database: str, folder: Path) -> Iterator[Settings]:
    """Settings of a service whose database is empty."""
    with ExitStack() as stack:
        fields = {**QUICK, "data_dir": folder, "port": ephemeral.free_port(), "rate_limits": False}
        fields |= {"inspect_wait_s": 0.01}
        if database == "postgresql":
            fields["database_url"] = stack.enter_context(servers.postgresql(away_s=1.0)).url
        yield Settings(**fields)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("first", ["api", "worker"])
def test_jobs_submitted_during_a_rolling_upgrade_all_succeed(
    before: Path, database: str, first: str, tmp_path: Path
) -> None:
    """Old API and worker; then the migration under them; then one of them new, then both. No 5xx but 503."""
    data = tmp_path / "data"
    data.mkdir()
    with unmigrated(database, data) as settings:
        environment, log = settings.environment(), tmp_path / "log"
        assert started(before, "upgrade", environment, log).wait(120) == 0, log.read_text()
        running = {what: started(before, what, environment, log) for what in ("api", "worker")}
        made = Storm(Scene(settings))
        post = Poster(f"http://127.0.0.1:{settings.port}", made)
        failed: list[BaseException] = []

        def submit() -> None:
            try:
                known = [
                    {name: value for name, value in body.items() if name != "cache"} for body in post.inputs([WISH])
                ]
                post.submit(known, JOBS)  # the older API has no cache
            except BaseException as error:
                failed.append(error)

        def accepted(count: int) -> bool:
            return bool(failed) or len(made.accepted) >= count

        try:
            post.wait()
            thread = threading.Thread(target=submit)
            thread.start()
            until(lambda: accepted(JOBS // 6), 120)
            upgrade(settings)
            for number, what in enumerate((first, {"api": "worker", "worker": "api"}[first]), start=1):
                until(lambda number=number: accepted(number * JOBS // 3), 120)  # type: ignore[misc]
                running[what].terminate()
                running[what].wait(60)
                running[what] = started(ROOT, what, environment, log)
                time.sleep(1)
            thread.join(300)
            assert not failed, (failed, log.read_text()[-3000:])
            until(lambda: len(ended(made.scene)) >= JOBS, 300, lambda: Counter(states(made.scene)))
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait(60)
        said = log.read_text()
        broken = wrong(made, JOBS)
        made.scene.db.dispose()
    print(database, first, made.summary())
    assert not broken
    assert "Traceback" not in said, said[said.index("Traceback") :][:3000]
