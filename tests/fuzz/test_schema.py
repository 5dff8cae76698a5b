"""Schemathesis: whatever the OpenAPI document allows, and much that it does not, is answered as the document says.

No 5xx, no undeclared status, no answer that breaks its schema, no route that forgets to ask for the key. The stateful
phase follows the document's links. `schemathesis.toml` says what is not checked, and why.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.keys import bootstrap, new_token
from jobs.settings import Settings
from tests.api.live import serve
from tests.api.results import finished
from tests.fuzz.workers import workers
from tests.jobs.world import World

ROOT = Path(__file__).parents[2]
CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 6  # of each operation, in each phase
LONG = 14
FUZZ = int(os.environ.get("LADAPRESS_FUZZ_EXAMPLES", "90"))


def planted(world: World) -> dict[str, list[str]]:
    """Ids of all kinds: jobs that ran and that wait."""
    ids: dict[str, list[str]] = {kind: [] for kind in ("model", "dataset", "job", "artifact", "inspection")}
    for number in range(30):
        if number % 3:
            job, artifact = finished(world)
            ids["artifact"].append(artifact)
        else:
            job = world.submit().id
        row = world.job(job)
        ids["job"].append(job)
        ids["model"].append(row.spec["model"])
        ids["dataset"].append(row.spec["data"]["train"])
        assert row.inspection_id is not None
        ids["inspection"].append(row.inspection_id)
    return ids


def fuzz(folder: Path, url: str | None, *, examples: int, seed: str, phases: str) -> int:
    """Run Schemathesis on a service of its own; how many requests it made. Fails with its report."""
    given = {} if url is None else {"database_url": url}
    key_file = folder / "key"
    secret = new_token()
    key_file.write_text(secret)
    settings = Settings(
        data_dir=folder / "data", inspect_wait_s=0.2, bootstrap_key_file=key_file, rate_limits=False, **given
    )
    with serve(settings) as live:
        with live.world.db.sessions.begin() as s:
            bootstrap(s, settings)
        # before the workers start: they would take the jobs that are to end here
        (folder / "ids.json").write_text(json.dumps(planted(live.world)))
        environment = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
            "LADAPRESS_FUZZ_IDS": str(folder / "ids.json"),
            "PYTHONPATH": str(ROOT),
        }
        with workers(live.world):
            done = subprocess.run(
                [
                    str(Path(sys.executable).parent / "st"), "--config-file", str(CONFIG),
                    "run", f"{live.url}/openapi.json",
                    "--header", f"Authorization: Bearer {secret}", "--max-examples", str(examples), "--seed", seed,
                    "--phases", phases, "--request-timeout", "30",
                    "--no-color", "--generation-database", "none", "--continue-on-failure",
                ],
                cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
            )  # fmt: skip
    assert done.returncode == 0, done.stdout[-30_000:] + done.stderr[-3_000:]
    made = re.search(r"(\d+) generated", done.stdout)
    assert made is not None, done.stdout[-3_000:]
    return int(made[1])


def test_hundreds_of_requests_are_answered_as_the_document_says(tmp_path: Path) -> None:
    """The same ones every time."""
    made = fuzz(tmp_path, None, examples=EXAMPLES, seed="1", phases="examples,fuzzing,stateful")
    assert made >= 300


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_thousands_of_requests_are_answered_as_the_document_says(tmp_path: Path, database_url: str) -> None:
    made = fuzz(tmp_path, database_url, examples=LONG, seed="2", phases="examples,coverage,fuzzing,stateful")
    assert made >= 2_000


@pytest.mark.fuzz
@pytest.mark.timeout(7200)
def test_ten_thousand_new_requests_are_answered_as_the_document_says(tmp_path: Path, database_url: str) -> None:
    """Others each time, LADAPRESS_FUZZ_SEED repeats a run."""
    seed = os.environ.get("LADAPRESS_FUZZ_SEED") or str(int.from_bytes(os.urandom(4)))
    print(f"LADAPRESS_FUZZ_SEED={seed}")
    made = fuzz(tmp_path, database_url, examples=FUZZ, seed=seed, phases="examples,coverage,fuzzing,stateful")
    assert made >= 10_000
