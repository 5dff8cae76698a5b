"""`ladapress projects` and `ladapress keys`: the operator makes tenants, limits them and lets them in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner

from jobs.cli import keys, projects
from jobs.db import Database, connect
from jobs.keys import authenticate, create_key
from jobs.problem import Refused
from jobs.projects import contents, create_project, delete_project, find_project, living
from jobs.scope import DEFAULT_PROJECT
from jobs.settings import Settings
from jobs.tables import ApiKey, Audit, Job
from tests.jobs.world import World


def call(command: object, *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    app = {"keys": keys.app, "projects": projects.app}[str(command)]
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return ended.exit_code, ended.stdout, ended.stderr


@pytest.fixture
def installed(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """The database that the commands find by the environment."""
    monkeypatch.setenv("LADAPRESS_DATABASE_URL", sqlite_url)
    database = connect(Settings(database_url=sqlite_url))
    yield database
    database.dispose()


def test_a_project_is_made_let_in_limited_and_deleted(installed: Database) -> None:
    """The whole way of a tenant, as an operator walks it."""
    code, project, _ = call("projects", "create", "nlp")
    assert (code, project[:5]) == (0, "proj_")
    project = project.strip()
    code, token, said = call("keys", "create", "ci", "--project", "nlp", "--scope", "jobs:write", "--days", "3")
    assert (code, token.count("\n")) == (0, 1)
    with installed.readers() as s:
        scope = authenticate(s, token.strip())
        expires = s.scalars(select(ApiKey.expires_at)).one()
    assert scope is not None
    assert (scope.project_id, scope.scopes, expires is not None) == (project, {"jobs:write"}, True)
    assert scope.who in said
    listed = call("keys", "list", "--project", project)[1]
    assert [part in listed for part in (scope.who, "nlp", "active until", "never used", token.strip()[-43:])] == [
        True, True, True, True, False,
    ]  # fmt: skip
    assert "queued_jobs  0 of 3" in call("projects", "quota", "nlp", "queued_jobs=3", "gpu_minutes=none")[1]
    assert "queued_jobs  0 of any" in call("projects", "quota", "nlp", "queued_jobs=default")[1]
    again = call("keys", "rotate", scope.who, "--grace-hours", "0")[1].strip()
    with installed.readers() as s:
        assert authenticate(s, token.strip()) is None
        assert authenticate(s, again) == scope
    assert call("keys", "revoke", scope.who)[0] == 0
    with installed.readers() as s:
        assert authenticate(s, again) is None
    assert "revoked" in call("keys", "list")[1]
    code, _, said = call("projects", "delete", "nlp")
    assert (code, "1 x api_key" in said) == (1, True)
    assert call("projects", "delete", "nlp", "--everything")[0] == 0
    assert "nlp" not in call("projects", "list")[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("projects", "create", "default"), "is there already"),
        (("projects", "create", " "), "not blank"),
        (("projects", "create", DEFAULT_PROJECT), "does not begin with proj_"),
        (("projects", "delete", "default"), "cannot be deleted"),
        (("projects", "delete", "absent"), "no project has the name"),
        (("projects", "quota", "default", "jobs=1"), "legal: queued_jobs"),
        (("projects", "quota", "default", "queued_jobs=-1"), "legal is NAME=VALUE"),
        (("keys", "create", "x", "--project", "absent"), "no project has the name"),
        (("keys", "create", "x", "--scope", "root"), "scopes must be some of"),
        (("keys", "create", "x", "--days", "0"), "must lie in the future"),
        (("keys", "revoke", "key_x"), "no key has the id"),
        (("keys", "rotate", "key_x"), "no key has the id"),
    ],
)
def test_a_command_that_makes_no_sense_says_why_and_changes_nothing(
    installed: Database, arguments: tuple[str, ...], said: str
) -> None:
    code, _, error = call(*arguments)
    assert code in (1, 2)
    assert said in error
    with installed.readers() as s:
        assert s.scalars(select(func.count()).select_from(Audit)).one() == 0


def test_a_deleted_project_leaves_its_audit_log_and_nothing_else(world: World) -> None:
    """Not while a job has not ended; another project keeps everything."""
    other = world.other()
    held = other.claimed()
    kept = world.ready().id
    with world.db.sessions.begin() as s:
        token = create_key(s, other.scope, "k")[1]
    project = other.scope.project_id
    with pytest.raises(Refused, match=held.job_id), world.db.sessions.begin() as s:
        delete_project(s, project)
    assert other.publish(held)
    for _ in range(2):  # again is fine: it takes what came meanwhile
        with world.db.sessions.begin() as s:
            delete_project(s, project)
    with world.db.readers() as s:
        assert contents(s, project) == {}
        assert not living(s, project)
        assert authenticate(s, token) is None
        log = s.scalars(select(Audit.action).where(Audit.project_id == project)).all()
        assert {"project.delete", "model.create", "key.create"} <= set(log)
        assert s.scalars(select(Job.id)).all() == [kept]
        with pytest.raises(Refused, match="no project"):
            find_project(s, project)
    with pytest.raises(Refused, match="default project"), world.db.sessions.begin() as s:
        delete_project(s, DEFAULT_PROJECT)


def test_names_are_of_one_project(world: World) -> None:
    with world.db.sessions.begin() as s:
        made = create_project(s, "nlp")
        assert find_project(s, "nlp").id == find_project(s, made.id).id == made.id
    with pytest.raises(Refused, match="already"), world.db.sessions.begin() as s:
        create_project(s, "nlp")
    world.other()
    world.other()
    with world.db.readers() as s, pytest.raises(Refused, match="2 projects are called 'other'"):
        find_project(s, "other")
