"""Events: pages of JSON, and a stream that can be cut anywhere without a gap or a repetition."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from api.routes import events
from jobs import service
from jobs.keys import create_key, revoke_key
from jobs.scope import Scope
from jobs.settings import Settings
from tests.api.live import Live, serve
from tests.api.problems import problem
from tests.api.results import finished, publish
from tests.jobs.world import World

STREAM = {"Accept": "text/event-stream"}


def say(world: World, held: service.Claim, count: int, first: int = 0) -> None:
    """Let the worker report `count` steps, each in a transaction of its own."""
    for step in range(first, first + count):
        with world.db.sessions.begin() as s:
            assert service.record(s, held.job_id, held.fence, [("metric", {"name": "loss", "step": step})])


def parsed(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """The messages of a stream: field -> value. Comments are left out."""
    message: dict[str, str] = {}
    for line in lines:
        if not line and message:
            yield message
            message = {}
        elif line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            message[name] = value


@contextmanager
def streaming(client: httpx2.Client, job_id: str, last: int | None = None, **headers: str) -> Iterator[Any]:
    """The messages of a job's stream that have an id, as they come."""
    sent = {**STREAM, **headers, **({} if last is None else {"Last-Event-ID": str(last)})}
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=sent) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield (message for message in parsed(answer.iter_lines()) if "id" in message)


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_pages_walk_through_all_events_in_order(client: TestClient, world: World) -> None:
    """By sequence number, oldest first, and only what comes after."""
    held = world.claimed()
    say(world, held, 7)
    url, after, seen = f"/v1/jobs/{held.job_id}/events?limit=3", 0, []
    while True:
        page = client.get(f"{url}&after={after}").json()
        seen += [event["seq"] for event in page["data"]]
        assert (page["first_id"], page["last_id"]) == (seen[after], seen[-1])
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert seen == list(range(1, len(world.events(held.job_id)) + 1))
    end = client.get(f"{url}&after={after}").json()
    assert (end["data"], end["has_more"], end["first_id"], end["last_id"]) == ([], False, None, None)
    assert client.get(f"{url}&after=2").json() == client.get(url, headers={"Last-Event-ID": "2"}).json()


def test_a_stream_follows_the_job_to_its_end(live: Live) -> None:
    """Each event once, with its number as id and its type, and then the stream closes by itself."""
    held = live.world.claimed()
    say(live.world, held, 2)
    got: list[dict[str, str]] = []

    def follow() -> None:
        with live.client() as client, streaming(client, held.job_id) as messages:
            got.extend(messages)

    follower = threading.Thread(target=follow)
    follower.start()
    until(lambda: len(got) >= 4, "events that were there")
    say(live.world, held, 3, first=2)
    publish(live.world, held)
    follower.join(20)
    assert not follower.is_alive()
    rows = live.world.events(held.job_id)
    assert [message["id"] for message in got] == [str(row.seq) for row in rows]
    assert [message["event"] for message in got] == [row.type for row in rows]
    last = json.loads(got[-1]["data"])
    assert (last["type"], last["data"]["state"], last["job_id"]) == ("state", "succeeded", held.job_id)


def test_a_stream_that_is_cut_again_and_again_has_no_gap_and_no_repetition(live: Live) -> None:
    """The reader drops the line after every few events while the job goes on, and resumes by Last-Event-ID."""
    held = live.world.claimed()
    seen: list[int] = []

    def work() -> None:
        for first in range(0, 60, 5):
            say(live.world, held, 5, first=first)
        publish(live.world, held)

    worker = threading.Thread(target=work)
    worker.start()
    cuts = 0
    ended = False
    while not ended:
        with live.client() as client, streaming(client, held.job_id, seen[-1] if seen else None) as messages:
            for count, message in enumerate(messages, start=1):
                seen.append(int(message["id"]))
                ended = json.loads(message["data"])["data"].get("state") == "succeeded"
                if count == 1 + cuts % 9:
                    break
        cuts += 1
    worker.join(20)
    assert cuts > 5
    assert seen == [row.seq for row in live.world.events(held.job_id)]


def test_readers_of_one_job_share_what_is_read(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever each began: it reads the table until it has caught up, and nobody misses an event or sees one twice."""
    monkeypatch.setattr(events, "BATCH", 3)
    reads: list[int] = []
    lines = events._lines
    monkeypatch.setattr(events, "_lines", lambda *given: reads.append(given[-1]) or lines(*given))
    held = live.world.claimed()
    say(live.world, held, 8)
    got: dict[int, list[int]] = {begin: [] for begin in (0, 4, 7, 9, 10)}

    def follow(begin: int) -> None:
        with live.client() as client, streaming(client, held.job_id, begin) as messages:
            got[begin].extend(int(message["id"]) for message in messages)

    followers = [threading.Thread(target=follow, args=(begin,)) for begin in got]
    for follower in followers:
        follower.start()
    until(lambda: all(seen[-1:] == [10] for begin, seen in got.items() if begin < 10), "what was there")
    time.sleep(1)  # all have caught up, and their feed has had its first look
    caught_up = len(reads)
    for step in range(8, 20):
        say(live.world, held, 1, first=step)
        time.sleep(0.05)
    publish(live.world, held)
    for follower in followers:
        follower.join(20)
    last = live.world.job(held.job_id).event_seq
    assert got == {begin: list(range(begin + 1, last + 1)) for begin in got}
    assert len(reads) == caught_up


def test_a_stream_after_the_last_event_is_204(client: TestClient, world: World) -> None:
    """An EventSource takes that as: do not come back."""
    job_id, _ = finished(world)
    last = world.job(job_id).event_seq
    assert client.get(f"/v1/jobs/{job_id}/events", headers={**STREAM, "Last-Event-ID": str(last)}).status_code == 204
    whole = client.get(f"/v1/jobs/{job_id}/events", headers=STREAM)
    rest = client.get(f"/v1/jobs/{job_id}/events?after={last - 1}", headers=STREAM)
    assert whole.text.count("\nid: ") == last
    assert rest.text.count("\nid: ") == 1
    assert whole.text.startswith("retry: ")


def test_a_silent_stream_is_kept_alive(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment now and then, so that proxies do not close the line."""
    monkeypatch.setattr("api.routes.events.IDLE_S", 0.05)
    held = live.world.claimed()
    with (
        live.client() as client,
        client.stream("GET", f"/v1/jobs/{held.job_id}/events", headers=STREAM) as answer,
    ):
        pings = 0
        for line in answer.iter_lines():
            pings += line.startswith(":")
            if pings == 3:
                break


def test_refusals_come_before_the_stream_begins(client: TestClient) -> None:
    """As problems, like everywhere."""
    problem(client.get("/v1/jobs/job_x/events", headers=STREAM), 404, "not_found")
    problem(client.get("/v1/jobs/job_x/events", headers={**STREAM, "Last-Event-ID": "x"}), 400, "header_invalid")
    problem(client.get("/v1/jobs/job_x/events?after=-1", headers=STREAM), 422, "request_invalid")


def test_a_deleted_job_ends_its_streams(live: Live) -> None:
    """And whoever asks again learns that it is not there."""
    held = live.world.claimed()
    with live.client() as client, streaming(client, held.job_id) as messages:
        next(messages)
        live.world.set(held.job_id, state="failed")  # past the table: no event says so
        assert client.delete(f"/v1/jobs/{held.job_id}").status_code == 204
        assert len(list(messages)) <= 2
        problem(client.get(f"/v1/jobs/{held.job_id}/events", headers=STREAM), 404, "not_found")


def test_a_revoked_key_ends_its_streams(fresh: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only the next request: an open line is looked at again and again."""
    monkeypatch.setattr(events, "RECHECK_S", 0.1)
    with serve(fresh) as live:
        with live.world.db.sessions.begin() as s:
            key, token = create_key(s, Scope(), "k")
        held = live.world.claimed()
        auth = {"Authorization": f"Bearer {token}"}
        with live.client() as client, streaming(client, held.job_id, **auth) as messages:
            next(messages)
            with live.world.db.sessions.begin() as s:
                revoke_key(s, Scope(), key.id)
            assert len(list(messages)) <= 2
            problem(client.get(f"/v1/jobs/{held.job_id}/events", headers={**STREAM, **auth}), 401, "unauthorized")
