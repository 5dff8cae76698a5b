"""Webhooks as they arrive: from the outbox to real sockets, whatever the receiver does (reliability.md, D25)."""

from __future__ import annotations

import itertools
import json
import re
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import select

from jobs import service
from jobs.db import connect
from jobs.settings import Settings
from jobs.tables import WebhookDelivery, WebhookEndpoint
from jobs.webhooks.addresses import Guard
from jobs.webhooks.deliveries import PER_ENDPOINT
from jobs.webhooks.kinds import PING, JobKind
from jobs.webhooks.outbox import tell
from tests.jobs.hooked import all_due, claim, deliveries, endpoint, local, ping, put, row
from tests.jobs.world import World
from tests.worker.conftest import MakeScene
from tests.worker.receiver import HUGE, Receiver, closed_port, receiver
from tests.worker.scene import SCOPE, until, worker
from worker.sender import KEPT, Sender
from worker.webhooks import Deliverer

PAGE = Path(__file__).parents[2] / "docs" / "webhooks.md"
QUICK = {"webhook_timeout_s": 20, "webhook_retry_s": (0.3,) * 200}


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def open_world(url: str, folder: Path, **fields: object) -> World:
    settings = local(data_dir=folder, database_url=url, **{**QUICK, **fields})
    return World(connect(settings), settings, itertools.count(1))


@pytest.fixture
def world(sqlite_url: str, tmp_path: Path) -> Iterator[World]:
    made = open_world(sqlite_url, tmp_path)
    yield made
    made.db.dispose()


@contextmanager
def delivering(world: World) -> Iterator[None]:
    """A deliverer at work."""
    stop = threading.Event()
    thread = threading.Thread(target=Deliverer(world.settings, world.db).run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def attempt(world: World, url: str) -> tuple[str, str]:
    """One ping, tried once. Endpoint and delivery."""
    endpoint_id, _ = endpoint(world, url)
    delivery = ping(world, endpoint_id)
    again(world)
    return endpoint_id, delivery


def again(world: World) -> None:
    """Try once what waits."""
    all_due(world)
    for held in claim(world):
        Deliverer(world.settings, world.db).deliver(held)


def last(world: World, delivery: str) -> tuple[int | None, str | None, str | None]:
    with world.db.readers() as s:
        one = service.attempts(s, SCOPE, delivery)[-1]
    return one.status_code, one.error, one.answer


@pytest.mark.parametrize(
    ("how", "status", "error"),
    [
        ("ok", 200, None),
        ("204", 204, None),
        ("404", 404, "answered 404"),
        ("500", 500, "answered 500"),
        ("redirect", 302, "answered 302; redirects are not followed"),
        ("held", None, "no answer within 0.4 seconds"),
        ("drip", None, "no answer within 0.4 seconds"),
        ("headers", None, "the connection broke"),
        ("broken", 200, None),
        ("huge", 200, None),
        ("nonsense", None, "the connection broke"),
        ("hangup", None, "the connection broke"),
    ],
)
def test_what_a_receiver_does_is_written_down(
    world: World, there: Receiver, how: str, status: int | None, error: str | None
) -> None:
    """2xx is success, everything else another attempt; little is read and less is kept, whatever is sent."""
    if "within" in (error or ""):
        world.settings.__dict__["webhook_timeout_s"] = 0.4
    endpoint_id, delivery = attempt(world, f"{there.url}/{how}")
    found = last(world, delivery)
    assert (found[0], (found[1] or "").partition(":")[0] or None) == (status, error)
    assert len(found[2] or "") <= KEPT
    assert "\x00" not in (found[2] or "")
    assert row(world, delivery).state == ("queued" if error else "succeeded")
    assert (row(world, endpoint_id).failing_since is None) == (error is None)
    assert [got.path for got in there.got] == [f"/{how}"]
    assert there.sent < HUGE / 64


def test_nobody_there_and_nowhere_to_go(world: World) -> None:
    """A closed port, a name without an address, a name that leads inside."""
    for url, error in (
        (f"http://127.0.0.1:{closed_port()}/", "could not connect"),
        ("https://nobody.invalid/", "could not connect: the host's name has no address"),
    ):
        assert (last(world, attempt(world, url)[1])[1] or "").startswith(error)


def test_a_policy_that_was_tightened_holds_for_what_waits(world: World, there: Receiver) -> None:
    """Neither form nor address of before counts."""
    for settings in ({"webhook_allow": ()}, {"webhook_http": False}, {"webhook_deny": ("127.0.0.1/32",)}):
        delivery = ping(world, endpoint(world, there.url)[0])
        tight = world.settings.model_copy(update=settings)
        all_due(world)
        for held in claim(world):
            Deliverer(tight, world.db).deliver(held)
        assert (last(world, delivery)[1] or "").startswith("blocked: ")
    assert there.got == []


def test_gone_is_heard(world: World, there: Receiver) -> None:
    endpoint_id, delivery = attempt(world, f"{there.url}/410")
    assert row(world, delivery).state == "failed"
    assert row(world, endpoint_id).disabled_reason == "It answered 410 Gone."
    again(world)
    assert len(there.got) == 1


def test_each_attempt_has_the_same_id_and_bytes_and_a_signature_of_its_own_time(world: World, there: Receiver) -> None:
    """Also the one after a crash between sending and writing that down."""
    endpoint_id, secret = endpoint(world, f"{there.url}/shy")
    delivery = ping(world, endpoint_id)
    again(world)
    put(world, WebhookDelivery, not_before=0.0)
    (held,) = claim(world, lease_s=-1)  # its holder sends, and dies
    sender = Sender(Guard.of(world.settings), 5)
    assert sender.post(held.url, {"webhook-id": held.delivery_id}, held.body.encode()).status_code == 200
    again(world)
    first, lost, after = there.got
    assert row(world, delivery).state == "succeeded"
    assert {got.id for got in (first, lost, after)} == {delivery}
    assert first.body == lost.body == after.body
    assert json.loads(first.body)["type"] == "ping"
    assert first.headers["content-type"] == "application/json"
    for got in (first, after):
        assert got.signed_by(secret)
        got.headers["webhook-timestamp"] = str(int(got.headers["webhook-timestamp"]) + 1)
        assert not got.signed_by(secret)


def test_without_the_key_file_messages_wait(world: World, there: Receiver) -> None:
    """A deliverer never makes a key of its own, and burns no attempt."""
    endpoint_id, _ = endpoint(world, there.url)
    delivery = ping(world, endpoint_id)
    path = world.settings.webhook_key_file
    hidden = path.rename(path.with_suffix(".hidden"))
    again(world)
    assert not path.exists()
    assert (there.got, row(world, delivery).state, row(world, delivery).tries) == ([], "queued", 0)
    hidden.rename(path)
    again(world)
    assert [got.id for got in there.got] == [delivery]


def test_a_slow_receiver_waits_for_itself_alone(world: World, there: Receiver) -> None:
    """It holds as many attempts as one may have; a hundred messages of another go past it."""
    world.settings.__dict__["webhook_timeout_s"] = 30.0
    slow, quick = endpoint(world, f"{there.url}/held")[0], endpoint(world, f"{there.url}/ok")[0]
    for _ in range(3 * PER_ENDPOINT):
        ping(world, slow)
    with delivering(world):
        until(lambda: there.waiting == PER_ENDPOINT, 30)
        for _ in range(20):
            ping(world, quick)
        until(lambda: len(there.at("/ok")) >= 20, 30)
        assert there.waiting == PER_ENDPOINT
        there.release.set()
        until(lambda: {each.state for each in deliveries(world, slow)} == {"succeeded"}, 30)
    assert there.most == PER_ENDPOINT


def run_d25(world: World, events: int) -> None:
    """Every event to seven receivers, each of its own kind, with a rotation in the middle."""
    port = closed_port()
    world.other()  # somebody else, who is told nothing
    with receiver() as there:
        kinds = {kind: endpoint(world, f"{there.url}/{kind}") for kind in ("ok", "shy", "late", "huge", "redirect")}
        kinds["410"] = endpoint(world, f"{there.url}/410")
        kinds["down"] = endpoint(world, f"http://127.0.0.1:{port}/ok")
        rotated = ""
        with delivering(world):
            for number in range(events):
                with world.db.sessions.begin() as s:
                    tell(s, SCOPE.project_id, "job.succeeded", {"object": "job", "id": f"job_{number}", "seq": 9})
                if number == events // 2:
                    until(lambda: len(there.at("/ok")) > 0, 60)
                    with world.db.sessions.begin() as s:
                        key_file = world.settings.webhook_key_file
                        rotated = service.rotate_secret(s, SCOPE, kinds["ok"][0], 600, key_file)[1]
            for kind in ("ok", "shy", "late", "huge"):
                until(lambda kind=kind: done(world, kinds[kind][0], events), 200, lambda kind=kind: kind)
            with receiver(port) as risen:
                until(lambda: done(world, kinds["down"][0], events), 200)
        for kind, server in (("ok", there), ("shy", there), ("late", there), ("huge", there), ("down", risen)):
            arrived = server.at("/ok" if kind == "down" else f"/{kind}")
            mine = {each.id: each.body.encode() for each in deliveries(world, kinds[kind][0])}
            assert {got.id for got in arrived} == set(mine), kind
            assert all(got.body == mine[got.id] and got.signed_by(kinds[kind][1]) for got in arrived), kind
            assert {json.loads(got.body)["data"]["id"] for got in arrived} == {f"job_{n}" for n in range(events)}, kind
        both = [got for got in there.at("/ok") if " " in got.headers["webhook-signature"]]
        assert both
        assert all(got.signed_by(rotated) for got in both)
        assert there.sent < events * HUGE / 64
    gone = row(world, kinds["410"][0])
    assert (gone.enabled, gone.disabled_reason) == (False, "It answered 410 Gone.")
    assert {got.path for got in there.got} == {"/ok", "/shy", "/late", "/huge", "/redirect", "/410"}
    assert len(there.at("/ok")) == len({got.id for got in there.at("/ok")}), "the redirect was followed"


def done(world: World, endpoint_id: str, events: int) -> bool:
    with world.db.readers() as s:
        mine = select(WebhookDelivery.id).where(WebhookDelivery.endpoint_id == endpoint_id)
        return len(s.scalars(mine.where(WebhookDelivery.state == "succeeded")).all()) == events


def test_every_event_arrives_whatever_receivers_do(database_url: str, tmp_path: Path) -> None:
    world = open_world(database_url, tmp_path)
    run_d25(world, 6)
    world.db.dispose()


@pytest.mark.long
def test_every_one_of_500_events_arrives_in_flat_memory(database_url: str, tmp_path: Path) -> None:
    """D25 in full: a terabyte is offered in answers, and the process grows by less than 100 MB."""
    world = open_world(database_url, tmp_path)
    run_d25(world, 5)
    with world.db.sessions.begin() as s:  # nothing of the first run is sent in the second
        for endpoint_id in s.scalars(select(WebhookEndpoint.id)).all():
            service.delete_endpoint(s, SCOPE, endpoint_id)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run_d25(world, 500)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10  # KiB
    world.db.dispose()


def test_the_example_of_the_page_verifies_what_arrives(
    world: World, there: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/webhooks.md: once for each id, and not for a forger."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    endpoint_id, secret = endpoint(world, there.url)
    ping(world, endpoint_id)
    again(world)
    (got,) = there.got
    statuses = [namespace["receive"](secret, got.headers, got.body) for _ in range(2)]
    assert (statuses, capsys.readouterr().out) == ([204, 204], f"ping {endpoint_id}\n")
    assert namespace["receive"](secret, got.headers, got.body.replace(b"ping", b"pong")) == 401


def test_the_page_names_every_type_and_the_schedule() -> None:
    named = set(re.findall(r"^\| (`.+?) \|", PAGE.read_text(), re.MULTILINE))
    types = {each.strip("`") for row in named for each in row.split(", ")}
    assert types == {*get_args(JobKind), "push.succeeded", "push.failed", PING}
    assert "after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and\n24 h" in PAGE.read_text()
    hours = (2, 5, 10, 14, 20, 24)
    assert Settings().webhook_retry_s == (5, 300, 1800, *(3600 * each for each in hours))


def test_alone_it_delivers_and_takes_no_job(make_scene: MakeScene, there: Receiver) -> None:
    """`python -m worker --only webhooks`; TERM ends it with 0. Beside a worker: test_one_job.py."""
    scene = make_scene("embedded")
    world = World(scene.db, scene.settings, itertools.count())
    endpoint_id, secret = endpoint(world, f"{there.url}/ok")
    waiting = world.ready().id
    with worker(scene, "--only", "webhooks"):
        ping(world, endpoint_id)
        until(lambda: [each.state for each in deliveries(world, endpoint_id)] == ["succeeded"], 90)
    assert [got.signed_by(secret) for got in there.got] == [True]
    assert world.job(waiting).state.value == "queued"
