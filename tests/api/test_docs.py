"""docs/api.md says what the service does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from fastapi.testclient import TestClient

from jobs.problem import CODES
from tests.api.problems import problem

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")


def test_the_page_lists_every_code_with_its_status_and_title() -> None:
    """What programs branch on: no code more, none less."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows == [(code, str(status), title) for code, (status, title) in CODES.items()]


def test_the_problem_on_the_page_is_the_one_that_is_sent(client: TestClient) -> None:
    """But for the id of the request."""
    shown = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    request = {"model": "m", "data": {"train": "t", "eval": "e"}, "target": {"parameter_ratio": 0.5}}
    sent = problem(client.post("/v1/jobs", json=request))
    assert {**sent, "request_id": None} == {**shown, "request_id": None}
