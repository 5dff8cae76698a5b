"""Lists: cursors in both directions, filters, and no parameter that means nothing; on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from jobs.settings import Settings
from tests.api.problems import problem
from tests.jobs.world import World


@pytest.fixture(scope="module")
def settings(both_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("data"), database_url=both_url, inspect_wait_s=0)


def listed(client: TestClient, query: str = "") -> list[str]:
    answer = client.get(f"/v1/jobs{query}")
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json()["data"]]


def submitted(world: World, count: int, **fields: Any) -> list[str]:
    """Ids, newest first."""
    return [world.submit(world.request(**fields)).id for _ in range(count)][::-1]


def test_pages_go_forward_and_back_over_the_same_rows(client: TestClient, world: World) -> None:
    """Whatever the page size, `after` and `before` walk the list without a gap or a repetition, inserts or not."""
    ids = submitted(world, 5)
    for limit in (1, 2, 5):
        seen, query = [], ""
        while True:
            page = client.get(f"/v1/jobs?limit={limit}{query}").json()
            seen += [job["id"] for job in page["data"]]
            if not page["has_more"]:
                break
            query = f"&after={page['last_id']}"
        assert seen == ids
        back, query = [], f"&before={ids[-1]}"
        while True:
            page = client.get(f"/v1/jobs?limit={limit}{query}").json()
            back = [job["id"] for job in page["data"]] + back
            if not page["has_more"]:
                break
            query = f"&before={page['first_id']}"
        assert back == ids[:-1]
    newer = submitted(world, 1)
    assert listed(client, f"?before={ids[0]}") == newer
    assert listed(client, f"?after={ids[0]}") == ids[1:]


def test_filters_hold_what_they_say(client: TestClient, world: World) -> None:
    """Status (one or several), name, model, metadata of any spelling, time."""
    named = world.submit(world.request(name="a b"))
    tagged = world.submit(world.request(metadata={"team": "x", 'odd"]$.key': "it's"}))
    also = world.submit(world.request(metadata={"team": "x", "run": "2"}))
    world.set(also.id, state="paused")
    assert listed(client, "?name=a%20b") == [named.id]
    assert listed(client, f"?model={tagged.spec['model']}") == [tagged.id]
    assert listed(client, f"?model={tagged.spec['data']['train']}") == []
    assert listed(client, "?status=paused") == [also.id]
    assert listed(client, "?status=paused&status=queued") == [also.id, tagged.id, named.id]
    for query, found in (
        ("metadata[team]=x", [also.id, tagged.id]),
        ("metadata[team]=x&metadata[run]=2", [also.id]),
        ("metadata[team]=y", []),
        ("metadata[x]=team", []),
    ):
        assert listed(client, f"?{query}") == found
    answer = client.get("/v1/jobs", params={'metadata[odd"]$.key]': "it's"})
    assert [job["id"] for job in answer.json()["data"]] == [tagged.id]
    made = datetime.fromtimestamp(tagged.created_at, UTC)
    assert named.id not in listed(client, f"?created_after={made.isoformat().replace('+', '%2B')}")
    before = (made - timedelta(days=1)).isoformat().replace("+", "%2B")
    assert listed(client, f"?created_before={before}") == []


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/models", "/v1/datasets", "/v1/pushes"])
def test_a_parameter_that_means_nothing_is_refused(client: TestClient, path: str) -> None:
    """A misspelt filter must not list everything; two cursors contradict; a time needs its zone."""
    found = problem(client.get(f"{path}?statsu=failed"), 422, "request_invalid")
    assert found["param"] == "query.statsu"
    assert "limit" in found["detail"]
    problem(client.get(f"{path}?limit[x]=1"), 422, "request_invalid")
    problem(client.get(f"{path}?after=a&before=b"), 422, "request_invalid")
    problem(client.get(f"{path}?created_after=2026-01-01T00:00:00"), 422, "request_invalid")


@pytest.mark.parametrize("query", ["metadata=x", "metadata[]=x", "metadata[a=x", "metadata[a%00]=x", "name=%00"])
def test_a_filter_that_no_row_can_match_is_refused(client: TestClient, query: str) -> None:
    problem(client.get(f"/v1/jobs?{query}"), 422, "request_invalid")
