"""Thousands of jobs in one go (D26): what lives for long holds no more at the end than after the first hundreds."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import redis

from jobs.states import State
from tests.chaos.crew import Crew, command, marked
from tests.chaos.storm import WISHES, Poster, Storm, api, ended, place, states, strike, wrong
from tests.worker.scene import Scene, until

JOBS = int(os.environ.get("LADAPRESS_SOAK_JOBS", "5000"))
A_PART = 100  # jobs between two looks
GROWS_BYTES = 1 << 20  # a process, over a part: what the plan allows
WARM = 3  # parts that are not counted: caches fill
FAULTS_S = {"redis": 300.0, "postgresql": 600.0}
LONG_LIVED = (b"-m\0api", b"start.py")  # of command lines: the API, a worker


def held(word: str) -> dict[str, tuple[int, int]]:
    """Resident bytes and open files of every long-lived process of the service, by what it is and its number."""
    found = {}
    for pid in marked(word):
        if not any(part in command(pid) for part in LONG_LIVED):
            continue
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            found[f"{command(pid).split(bytes(1))[-2].decode()[-20:]} {pid}"] = (
                pages * os.sysconf("SC_PAGE_SIZE"),
                len([*Path(f"/proc/{pid}/fd").iterdir()]),
            )
        except OSError:  # it ended a moment ago
            continue
    return found


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
def test_nothing_grows_over_thousands_of_jobs(tmp_path: Path) -> None:
    """Memory and files of API and workers, keys of Redis; and no job is lost to the few faults."""
    stop, rng = threading.Event(), random.Random(1)
    looks: list[dict[str, tuple[int, int]]] = []
    with place("celery", tmp_path, away_s=2, attempts=10) as (settings, servers):
        made = Storm(Scene(settings))
        environment = {**settings.environment(), "CHAOS_NOTES": str(tmp_path / "notes")}
        with api(environment):
            post = Poster(f"http://127.0.0.1:{settings.port}", made)
            post.wait()
            crew = Crew(2, environment)
            striker = threading.Thread(target=strike, args=(made, crew, servers, FAULTS_S, rng, stop))
            try:
                bodies = post.inputs(WISHES)
                before = keys(settings.broker_url)
                striker.start()
                for done in range(A_PART, JOBS + 1, A_PART):
                    post.submit(bodies, done, begin=done - A_PART)
                    until(lambda done=done: len(ended(made.scene)) >= done, 3600, lambda: Counter(states(made.scene)))
                    looks.append(held(str(tmp_path)))
                stop.set()
                striker.join()
                until(lambda: keys(settings.broker_url) <= before, 120, lambda: keys(settings.broker_url))
            finally:
                stop.set()
                crew.leave()
        broken = wrong(made, JOBS, attempts=10)
        done = Counter(states(made.scene))
        made.scene.db.dispose()
    grown = {name: growth([look[name] for look in looks[WARM:]]) for name in looks[-1] if name in looks[WARM]}
    for name, (memory, files) in grown.items():
        print(f"{name}: {memory / 2**20:+.2f} MiB and {files:+.2f} files for {A_PART} jobs")
    print(f"{JOBS} jobs, kills {dict(made.kills)}, keys of Redis {before} before")
    assert done == {State.SUCCEEDED: JOBS}
    assert not broken
    assert len(grown) >= 3  # the API, two workers
    assert all(memory < GROWS_BYTES and abs(files) < 1 for memory, files in grown.values())


def keys(url: str) -> int:
    """How many Redis holds; more than there can be while it is away."""
    with redis.Redis.from_url(url) as client:
        try:
            return int(client.dbsize())
        except redis.ConnectionError:
            return 1 << 30


def growth(looks: list[tuple[int, int]]) -> tuple[float, float]:
    """Slope of memory and of files over the looks, by least squares."""
    places = np.arange(len(looks))
    memory, files = (float(np.polyfit(places, [look[place] for look in looks], 1)[0]) for place in range(2))
    return memory, files
