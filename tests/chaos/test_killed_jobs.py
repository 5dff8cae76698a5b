"""Jobs whose processes are killed, and jobs that are cancelled, at any moment of their lives (D9, D10, D12)."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from jobs.problem import Refused
from jobs.states import TERMINAL, State
from tests.chaos.crew import GONE_S, children, command
from tests.chaos.storm import place
from tests.worker.scene import Scene, members, until, worker

SEED = int(os.environ.get("LADAPRESS_CHAOS_SEED", "1"))
STEPS, EVERY, STEP_S = 60, 10, 0.05
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3600)]


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    with place(getattr(request, "param", "embedded"), tmp_path) as (settings, _):
        made = Scene(settings)
        yield made
        made.db.dispose()


def told(what: str, values: Sequence[float]) -> None:
    p50, p95 = (float(np.percentile(values, share)) for share in (50, 95))
    print(f"{what}: {len(values)} times, p50 {p50:.3g}, p95 {p95:.3g}, most {max(values):.3g}")


def reached(scene: Scene) -> int:
    """The steps that the job at work has done, as far as its folder says."""
    for path in scene.settings.work_dir.glob("*/*/out/0/chain.json"):
        with suppress(OSError, ValueError):
            return int(json.loads(path.read_text())["done"])
    return 0


def group(scene: Scene) -> int | None:
    """Of the one job at work, if there is one."""
    with suppress(ValueError, OSError):
        return scene.busy_group()
    return None


def test_a_job_killed_at_any_step_comes_to_what_it_would_have(scene: Scene) -> None:
    """D9. Fifty times kill -9 of the whole group; who kills loses what is younger than the last checkpoint stored."""
    rng, lost = random.Random(SEED), []
    wish = {"steps": STEPS, "step_s": STEP_S, "keep_every": EVERY}
    with worker(scene):
        (files,) = scene.artifacts(scene.wait(scene.submit(**wish)).id)
        whole = json.loads(files["chain.json"])
        assert (whole["resumed"], whole["done"]) == (0, STEPS)
        for _ in range(50):
            until(lambda: group(scene) is None, 30)  # nothing of the job before is left to be taken for this one's
            job_id, at = scene.submit(judged=True, **wish), rng.randrange(1, STEPS - 20)
            until(lambda at=at: reached(scene) >= at, 60)  # type: ignore[misc]
            step, victim = reached(scene), group(scene)
            assert victim is not None
            os.killpg(victim, signal.SIGKILL)
            job = scene.wait(job_id)
            (files,) = scene.artifacts(job_id)
            found = json.loads(files["chain.json"])
            assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
            assert (found["chain"], found["done"]) == (whole["chain"], STEPS)
            lost.append(step - found["resumed"])
    told(f"steps lost, a checkpoint every {EVERY}", lost)
    assert max(lost) <= 2 * EVERY  # one that was being stored is lost, too


def test_a_cancel_at_any_moment_ends_the_group_and_the_job_once(scene: Scene) -> None:
    """D10. Two hundred jobs that wait, start, run, publish, or have ended; every second one is cancelled twice."""
    rng, ended, gone = random.Random(SEED), Counter[str](), []
    with worker(scene):
        scene.wait(scene.submit())
        for number in range(200):
            job_id = scene.submit(judged=True, steps=10, step_s=0.03, spawn=True)
            time.sleep(rng.uniform(0, 0.9))
            began, victim = time.monotonic(), group(scene)
            for _ in range(1 + number % 2):
                with suppress(Refused):  # it had ended
                    scene.cancel(job_id)
            if victim is not None:
                until(lambda victim=victim: not members(victim), 35)  # type: ignore[misc]
                gone.append(time.monotonic() - began)
            job = scene.wait(job_id)
            ended[job.state] += 1
            states = [State(data["state"]) for kind, data in scene.told(job_id) if kind == "state"]
            assert [state for state in states if state in TERMINAL] == [job.state]
            assert job.state in (State.CANCELLED, State.SUCCEEDED), job.error
            assert len(scene.artifacts(job_id)) == (job.state is State.SUCCEEDED)
            until(lambda: group(scene) is None, 5)
    told("seconds from cancel to the end of the group", gone)
    print(dict(ended))
    assert min(ended[State.CANCELLED], ended[State.SUCCEEDED]) >= 10
    assert np.percentile(gone, 95) <= 5.0


@pytest.mark.parametrize(
    ("scene", "who"),
    [("embedded", "worker"), ("celery", "node"), ("celery", "supervisor")],
    indirect=["scene"],
)
def test_no_process_of_a_job_outlives_a_killed_worker(scene: Scene, who: str) -> None:
    """D12. Twenty times kill -9: of the worker, of the node that holds the job, of the process that keeps the nodes."""
    took = []
    for _ in range(20):
        with worker(scene) as process:
            job_id = scene.submit(steps=2000, step_s=0.05, spawn=True)
            scene.wait(job_id, State.RUNNING, within_s=300)
            until(lambda: group(scene) is not None, 60)
            victim = scene.busy_group()
            until(lambda victim=victim: len(members(victim)) == 3, 60)  # type: ignore[misc]
            nodes = [pid for pid in children(process.pid) if b"job" in command(pid).split(b"\0")]
            began = time.monotonic()
            os.kill(nodes[0] if who == "node" else process.pid, signal.SIGKILL)
            until(lambda victim=victim: not members(victim), GONE_S)  # type: ignore[misc]
            took.append(time.monotonic() - began)
            with suppress(Refused):
                scene.cancel(job_id)
            scene_job = scene.wait(job_id) if who == "node" else None
            assert scene_job is None or scene_job.state is State.CANCELLED
        process.wait(60)
        until(lambda: not scene.groups(), 60)  # nodes without their parent drain
    told(f"seconds from kill -9 of the {who} to the end of the job's processes", took)
