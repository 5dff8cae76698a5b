"""Idempotency keys on every POST: act once, answer the same; on SQLite and on PostgreSQL."""

from __future__ import annotations

import base64
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select, update
from sqlalchemy.exc import OperationalError

from api import once
from jobs import replays
from jobs.clock import db_now
from jobs.problem import Refused
from jobs.settings import Settings
from jobs.tables import Dataset, Model, Replay
from tests.api.problems import problem
from tests.jobs.world import World

MODEL = {"files": [{"path": "model.safetensors"}]}


@pytest.fixture(scope="module")
def settings(both_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("data"), database_url=both_url, inspect_wait_s=0)


def count(world: World, table: type[Any]) -> int:
    with world.db.readers() as s:
        return s.scalars(select(func.count()).select_from(table)).one()


def key(value: str) -> dict[str, str]:
    return {"Idempotency-Key": value}


def test_the_same_post_twice_acts_once_and_answers_the_same(client: TestClient, world: World) -> None:
    """Status, Location and body; another path or no key is another matter."""
    first, again = (client.post("/v1/models", json=MODEL, headers=key("a")) for _ in range(2))
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert first.headers["location"] == again.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"]
    assert count(world, Model) == 1
    client.post("/v1/models", json=MODEL)
    assert count(world, Model) == 2
    csv = {**key("a"), "Content-Type": "text/csv"}
    made = [client.post("/v1/datasets", content=b"text,label\n", headers=csv).json()["id"] for _ in range(2)]
    assert made[0] == made[1]
    assert count(world, Dataset) == 1


def test_the_key_of_another_body_is_refused(client: TestClient) -> None:
    """Another byte of JSON, another length of an upload, another query."""
    client.post("/v1/models", json=MODEL, headers=key("a"))
    other = {**MODEL, "name": "other"}
    problem(client.post("/v1/models", json=other, headers=key("a")), 422, "idempotency_key_reused")
    csv = {**key("a"), "Content-Type": "text/csv"}
    client.post("/v1/datasets", content=b"text,label\n", headers=csv)
    problem(client.post("/v1/datasets", content=b"text,label\nx,1\n", headers=csv), 422, "idempotency_key_reused")
    problem(client.post("/v1/datasets?name=x", content=b"text,label\n", headers=csv), 422, "idempotency_key_reused")


def test_a_refused_request_leaves_its_key_free(client: TestClient, world: World) -> None:
    """Nothing was done, so the corrected request may use it; a key that is none is refused."""
    bad = {"files": [{"path": "../x"}]}
    problem(client.post("/v1/models", json=bad, headers=key("a")), 422)
    assert client.post("/v1/models", json=MODEL, headers=key("a")).status_code == 201
    assert count(world, Replay) == 1
    problem(client.post("/v1/models", json=MODEL, headers=key("a b")), 400, "header_invalid")
    problem(client.post("/v1/models", json=MODEL, headers=key("k" * 256)), 400, "header_invalid")


def test_an_answer_that_failed_half_way_frees_the_key(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected error is a 500 the first time, and no wall the second time."""
    from api.routes import models

    monkeypatch.setattr(models.service, "create_model", lambda *_: 1 / 0)
    problem(client.post("/v1/models", json=MODEL, headers=key("a")), 500, "internal")
    monkeypatch.undo()
    assert client.post("/v1/models", json=MODEL, headers=key("a")).status_code == 201


@pytest.mark.parametrize(("failures", "kept"), [(1, True), (99, False)])
def test_what_was_done_is_answered_though_the_answer_cannot_be_kept(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch, failures: int, kept: bool
) -> None:
    """It is written again, for a commit may have failed in its answer alone; at last the caller gets it unkept."""
    left = iter(range(failures))
    end = replays.end

    def fail(s: Any, replay_id: str, answer: replays.Answer | None) -> None:
        end(s, replay_id, answer)
        if next(left, None) is not None:
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))

    monkeypatch.setattr(once, "PAUSES_S", (0, 0))
    monkeypatch.setattr(replays, "end", fail)
    made = client.post("/v1/models", json=MODEL, headers=key("a"))
    assert made.status_code == 201
    with world.db.readers() as s:
        assert s.scalars(select(Replay.status)).all() == [201 if kept else None]


def test_a_note_that_may_have_been_written_stands_in_nobodys_way(
    client: TestClient, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit of "in flight" was carried out, its answer lost: the request itself goes on, and so does no other."""
    begin, times = replays.begin, iter(range(9))

    def fail(s: Any, *arguments: Any) -> replays.Answer | str:
        found = begin(s, *arguments)
        if next(times) == 0:
            s.commit()
            raise OperationalError("COMMIT", {}, Exception("server closed the connection"))
        return found

    monkeypatch.setattr(replays, "begin", fail)
    assert client.post("/v1/models", json=MODEL, headers=key("a")).status_code == 201
    assert client.post("/v1/models", json=MODEL, headers=key("a")).headers["idempotent-replayed"] == "true"
    assert count(world, Model) == 1


def test_twenty_at_once_make_one(client: TestClient, world: World) -> None:
    """Each is answered with the one model, or told that the first is still at work."""
    barrier = threading.Barrier(20)

    def post(_: int) -> Any:
        barrier.wait()
        return client.post("/v1/models", json=MODEL, headers=key("a"))

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(post, range(20)))
    assert count(world, Model) == 1
    made = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    for answer in answers:
        if answer.status_code != 201:
            assert problem(answer, 409, "idempotency_in_flight")["retryable"]
            assert answer.headers["retry-after"] == "1"


def test_a_request_whose_process_died_is_taken_over(world: World) -> None:
    """Not while it may be at work, but when its lease has run out; and only by one."""

    def begin() -> replays.Answer | str:
        with world.db.sessions.begin() as s:
            return replays.begin(s, world.scope, "/v1/models", "a", "f")

    first = begin()
    with pytest.raises(Refused, match="still at work"):
        begin()
    with world.db.sessions.begin() as s:
        s.execute(update(Replay).values(lease_until=db_now() - 1))
    second = begin()
    assert isinstance(second, str)
    assert second != first
    with pytest.raises(Refused, match="still at work"):
        begin()
    with world.db.sessions.begin() as s:
        replays.end(s, str(first), replays.Answer(201, {}, "late"))  # who was taken for dead says nothing any more
        replays.end(s, second, replays.Answer(201, {}, "{}"))
    assert begin() == replays.Answer(201, {}, "{}")


def test_an_answer_that_says_ask_again_is_not_kept(client: TestClient, world: World) -> None:
    """202 of an inspection: the same POST tells later what was found."""
    request = world.request()
    body = {"model": request.model, "data": request.data.model_dump(mode="json", exclude_none=True)}
    assert client.post("/v1/inspections", json=body, headers=key("a")).status_code == 202
    world.judge()
    done = client.post("/v1/inspections", json=body, headers=key("a"))
    assert (done.status_code, done.json()["ok"]) == (200, True)


def test_uploads_that_are_told_in_headers_are_told_apart(client: TestClient) -> None:
    """A tus creation has no body; its length and metadata are what it asks for."""

    def create(length: int) -> Any:
        pairs = {"purpose": b"dataset", "filename": b"a.csv", "sha256": b"0" * 64}
        told = ",".join(f"{name} {base64.b64encode(value).decode()}" for name, value in pairs.items())
        headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(length), "Upload-Metadata": told}
        return client.post("/v1/uploads", headers={**headers, **key("a")})

    first, again = create(10), create(10)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.headers["location"] == again.headers["location"]
    assert again.headers["tus-resumable"] == "1.0.0"
    problem(create(11), 422, "idempotency_key_reused")


def test_a_long_request_is_not_taken_over(world: World) -> None:
    """It renews its lease while it works."""
    with world.db.sessions.begin() as s:
        first = replays.begin(s, world.scope, "/v1/models", "a", "f")
        s.execute(update(Replay).values(lease_until=db_now() - 1))
        replays.renew(s, str(first))
    with pytest.raises(Refused, match="still at work"), world.db.sessions.begin() as s:
        replays.begin(s, world.scope, "/v1/models", "a", "f")


def test_answers_are_forgotten_after_two_days(world: World) -> None:
    with world.db.sessions.begin() as s:
        for name in ("old", "new"):
            replays.begin(s, world.scope, "/v1/models", name, "f")
        s.execute(update(Replay).where(Replay.key == "old").values(created_at=db_now() - replays.KEPT_S - 1))
    world.reconcile()
    with world.db.readers() as s:
        assert s.scalars(select(Replay.key)).all() == ["new"]
