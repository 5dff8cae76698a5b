"""The tenant scope: another project's id is an absent id, to the letter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy.orm import Session

from jobs import service
from jobs.ids import PREFIXES, new_id
from jobs.keys import create_key, revoke_key, rotate_key
from jobs.problem import Problem, Refused
from jobs.requests import JobRequest, PushRequest
from jobs.scope import Scope, get, page
from jobs.store import Blob
from jobs.tables import ApiKey, Artifact, Base, Dataset, Job, Model, Push
from tests.jobs.world import World

Call = Callable[[Session, Scope, dict[str, str]], object]


def submit_with(**roles: str) -> Call:
    """Submit with ids of the caller's own, but for the roles named."""

    def call(s: Session, scope: Scope, ids: dict[str, str]) -> object:
        mine = {role: ids[roles.get(role, f"own {role}")] for role in ("model", "train", "eval", "select")}
        data = {"train": mine["train"], "eval": mine["eval"], "select": mine["select"]}
        return service.submit(s, scope, JobRequest.model_validate({"model": mine["model"], "data": data}), None)

    return call


PUSH = PushRequest(registry="hub", to="acme/small")
CALLS: dict[str, Call] = {
    "read a job": lambda s, scope, ids: get(s, scope, Job, ids["job"]),
    "read a model": lambda s, scope, ids: get(s, scope, Model, ids["model"]),
    "read an artifact": lambda s, scope, ids: get(s, scope, Artifact, ids["artifact"]),
    "push an artifact": lambda s, scope, ids: service.request_push(s, scope, ids["artifact"], PUSH),
    "read a push": lambda s, scope, ids: get(s, scope, Push, ids["push"]),
    "delete a push": lambda s, scope, ids: service.delete_push(s, scope, ids["push"]),
    "cancel": lambda s, scope, ids: service.cancel(s, scope, ids["job"]),
    "delete a job": lambda s, scope, ids: service.delete_job(s, scope, ids["job"]),
    "read events": lambda s, scope, ids: service.events_after(s, scope, ids["job"]),
    "delete a model": lambda s, scope, ids: service.delete_model(s, scope, ids["model"]),
    "delete a dataset": lambda s, scope, ids: service.delete_dataset(s, scope, ids["dataset"]),
    "read a declared file": lambda s, scope, ids: service.declared_file(s, scope, ids["model"], "model.safetensors"),
    "send a file": lambda s, scope, ids: service.file_arrived(
        s, scope, ids["model"], "model.safetensors", Blob("1" * 64, 1), 10**6
    ),
    "read an inspection": lambda s, scope, ids: service.get_inspection(s, scope, ids["inspection"]),
    "rotate a key": lambda s, scope, ids: rotate_key(s, scope, ids["key"], 60),
    "revoke a key": lambda s, scope, ids: revoke_key(s, scope, ids["key"]),
    "submit with the model": submit_with(model="model"),
    "submit with the training data": submit_with(train="dataset"),
    "submit with the evaluation data": submit_with(eval="dataset"),
    "submit with the selection data": submit_with(select="dataset"),
}


def test_another_projects_id_is_answered_as_an_absent_id(world: World) -> None:
    """Every call, with an id that is there and with one that is not: the same problem, word for word."""
    held = world.claimed()
    world.publish(held)
    job = world.job(held.job_id)
    with world.db.sessions.begin() as s:
        artifact = s.query(Artifact).one().id
        push = service.request_push(s, world.scope, artifact, PUSH)[0].id
        key = create_key(s, world.scope, "k")[0].id
    foreign = {
        "job": job.id,
        "model": job.spec["model"],
        "dataset": job.spec["data"]["train"],
        "artifact": artifact,
        "push": push,
        "inspection": str(job.inspection_id),
        "key": key,
    }
    absent = {kind: new_id(value.split("_")[0]) for kind, value in foreign.items()}
    stranger = world.other()
    own = {"own model": stranger.model(), **{f"own {role}": stranger.dataset() for role in ("train", "eval", "select")}}

    def answer(call: Call, ids: dict[str, str]) -> dict[str, Any]:
        with pytest.raises(Refused) as caught, world.db.sessions.begin() as s:
            call(s, stranger.scope, {**own, **ids})
        return caught.value.problem.as_dict()

    for name, call in CALLS.items():
        assert answer(call, foreign) == answer(call, absent), name
        assert answer(call, foreign)["status"] == 404, name
    assert world.job(job.id).state == job.state


def test_lists_show_the_project_only(world: World) -> None:
    mine, theirs = world.ready().id, world.other().ready().id
    with world.db.readers() as s:
        rows, more = page(s, world.scope, Job)
    assert ([row.id for row in rows], more) == ([mine], False)
    assert theirs != mine


def test_pages_follow_each_other_without_gap_or_repeat(world: World) -> None:
    ids = [world.dataset() for _ in range(7)]
    seen: list[str] = []
    more = True
    while more:
        with world.db.readers() as s:
            rows, more = page(s, world.scope, Dataset, limit=3, after=seen[-1] if seen else None)
        seen += [row.id for row in rows]
    assert seen == sorted(ids, reverse=True)


@pytest.mark.parametrize("hostile", ["", "\x00", "\ud800", "job_\x00", "x" * 10_000, "' OR 1=1 --", "job_%"])
def test_a_hostile_id_is_an_absent_id(world: World, hostile: str) -> None:
    """None of them is an error of the database."""
    with world.db.readers() as s, pytest.raises(Refused) as caught:
        get(s, world.scope, Job, hostile)
    assert caught.value.problem.code == "not_found"
    with world.db.readers() as s:
        page(s, world.scope, Job, after=hostile)


def test_a_scope_that_is_missing_is_forbidden() -> None:
    reader = Scope(scopes=frozenset({"read"}))
    reader.need("read")
    with pytest.raises(Refused) as caught:
        reader.need("write")
    assert caught.value.problem.status == 403


def test_every_table_but_project_has_a_project() -> None:
    """Workers, the keys that they sign with and the tallies are of every project; none holds anybody's secret."""
    for table in Base.metadata.tables.values():
        if table.name not in ("project", "worker", "signing_key", "tally"):
            assert "project_id" in table.columns
            assert not table.columns["project_id"].nullable


def test_ids_say_what_they_are_and_sort_by_time() -> None:
    early = new_id("job", at_ms=1_700_000_000_000)
    late = new_id("job", at_ms=1_700_000_000_001)
    assert early < late
    assert len({new_id("job") for _ in range(1000)}) == 1000
    assert all(len(new_id(prefix)) == len(prefix) + 27 for prefix in PREFIXES)
    with pytest.raises(ValueError, match="not one of"):
        new_id("thing")


def test_problems_of_core_keep_their_code_and_unknown_ones_become_internal() -> None:
    known = Problem.from_error({"code": "data_invalid", "detail": "row 3", "param": "/data/train"})
    assert (known.status, known.code, known.param) == (422, "data_invalid", "/data/train")
    assert Problem.from_error({"code": "<script>", "detail": "x"}).code == "internal"
    assert "\x00" not in Problem.of("internal", "a\x00b\ud800").detail


def test_no_key_is_read_by_another_project(world: World) -> None:
    with world.db.sessions.begin() as s:
        key, _ = create_key(s, world.scope, "mine")
    with world.db.readers() as s:
        assert page(s, world.other().scope, ApiKey)[0] == []
        assert page(s, world.scope, ApiKey)[0][0].id == key.id
