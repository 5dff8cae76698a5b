"""What people honestly have is accepted in the answer to the submission, with the warnings that it deserves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.desk import Desk
from tests.corpus.honest import HONEST


def test_the_corpus_is_large_enough() -> None:
    """At least thirty of them, and eight kinds of tokenizers."""
    assert len(HONEST) >= 30


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_submission_is_accepted(name: str, desk: Desk) -> None:
    """The job may be claimed when the answer comes; its warnings are those of the layout and no others."""
    layout = HONEST[name]
    answer = layout.send(desk)
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert (job["status"], job["stage"]) == ("queued", None), job
    events = desk.client.get(f"/v1/jobs/{job['id']}/events").json()["data"]
    told = {event["data"]["code"] for event in events if event["type"] == "warning"}
    assert told == layout.warns, sorted(told ^ layout.warns)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, layout in HONEST.items() if layout.model])
def test_an_honest_model_is_one_that_loads(name: str, tmp_path: Path) -> None:
    """Otherwise its acceptance would be worth nothing."""
    from core.model import load

    make = HONEST[name].model
    assert make is not None
    for file, content in make().items():
        (tmp_path / file).write_bytes(content)
    assert load(tmp_path, HONEST[name].fields.get("task")).model is not None
