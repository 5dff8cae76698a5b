"""Redis is away while 200 jobs are submitted (D5): each is accepted at once, and workers find it themselves."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import httpx2
import numpy as np
import pytest

from jobs.states import State
from tests.chaos.crew import Crew
from tests.chaos.storm import Poster, Storm, api, ended, place, states
from tests.worker.scene import Scene, until

AWAY_S = float(os.environ.get("LADAPRESS_CHAOS_AWAY_S", "60"))
JOBS, DONE_S, ACCEPTED_S = 200, 60.0, 0.5


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_two_hundred_jobs_are_taken_while_the_broker_is_away(tmp_path: Path) -> None:
    """200 times 201 on the first try; all have ended a minute after Redis is back, with nothing left of before."""
    with place("celery", tmp_path) as (settings, servers):
        made = Storm(Scene(settings))
        environment = {**settings.environment(), "CHAOS_NOTES": str(tmp_path / "notes")}
        with api(environment):
            post = Poster(f"http://127.0.0.1:{settings.port}", made)
            post.wait()
            crew = Crew(2, environment)
            try:
                body = post.inputs([{"steps": 1}])[0]
                made.scene.wait(made.scene.submit(), within_s=300)  # the workers are warm
                servers["redis"].kill(away_s=AWAY_S)
                back, took = time.monotonic() + AWAY_S, []
                with httpx2.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=20) as client:
                    for number in range(JOBS):
                        began = time.monotonic()
                        answer = client.post("/v1/jobs", json={**body, "seed": number})
                        took.append(time.monotonic() - began)
                        assert answer.status_code == 201, answer.text
                        made.accepted[str(number)] = answer.json()["id"]
                submitted = time.monotonic()
                without = len(ended(made.scene))
                until(lambda: len(ended(made.scene)) > JOBS, AWAY_S + 600, lambda: Counter(states(made.scene)))
                late = time.monotonic() - back
            finally:
                crew.leave()
        done = Counter(states(made.scene))
        made.scene.db.dispose()
    p50, p99 = (float(np.percentile(took, share)) for share in (50, 99))
    print(f"{JOBS} submits in {sum(took):.1f} s, p50 {p50:.3f} s, p99 {p99:.3f} s; {without} had ended by then,")
    print(f"{back - submitted:.1f} s before Redis was back; all had ended {late:.1f} s after it was back")
    assert done == {State.SUCCEEDED: JOBS + 1}
    assert submitted < back
    assert p99 <= ACCEPTED_S
    assert late <= DONE_S
