"""Endpoints of webhooks in the database: their secrets, their number, their types. On both databases."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from jobs import service
from jobs.clock import db_now
from jobs.problem import Refused
from jobs.tables import Audit, Project, WebhookEndpoint
from jobs.webhooks.endpoints import MOST
from jobs.webhooks.keyring import Keyring
from jobs.webhooks.requests import EndpointCreate
from tests.jobs.hooked import GOOD, change, claim, endpoint, finish, ping, put, row
from tests.jobs.world import World


def rotate(world: World, endpoint_id: str, grace_s: float) -> str:
    with world.db.sessions.begin() as s:
        return service.rotate_secret(s, world.scope, endpoint_id, grace_s, world.settings.webhook_key_file)[1]


def opened(world: World, endpoint_id: str) -> list[str]:
    """The secrets that sign now, the newest first."""
    ping(world, endpoint_id)
    (held,) = claim(world)
    assert finish(world, held, GOOD)
    keyring = Keyring.load(world.settings.webhook_key_file)
    return [keyring.open(sealed) for sealed in held.secrets]


def test_both_secrets_sign_until_the_grace_is_over(world: World) -> None:
    endpoint_id, first = endpoint(world)
    assert opened(world, endpoint_id) == [first]
    second = rotate(world, endpoint_id, 60)
    assert opened(world, endpoint_id) == [second, first]
    third = rotate(world, endpoint_id, 60)
    assert opened(world, endpoint_id) == [third, second]
    put(world, WebhookEndpoint, old_secret_until=db_now() - 1)
    assert opened(world, endpoint_id) == [third]
    fourth = rotate(world, endpoint_id, 0)
    assert opened(world, endpoint_id) == [fourth]
    assert len({first, second, third, fourth}) == 4


def test_no_secret_lies_in_the_database(world: World) -> None:
    """The file with the key is for its owner only; another key opens nothing, and says so."""
    endpoint_id, secret = endpoint(world)
    stored = row(world, endpoint_id).secret
    assert secret.removeprefix("whsec_") not in stored
    path = world.settings.webhook_key_file
    assert path.stat().st_mode & 0o777 == 0o600
    assert "keys" not in repr(Keyring.load(path))
    old = path.read_text()
    path.unlink()
    with pytest.raises(ValueError, match="webhook_key_file"):
        Keyring.load_or_create(path).open(stored)
    path.write_text(path.read_text() + old)
    assert Keyring.load(path).open(stored) == secret
    path.write_text("nonsense")
    with pytest.raises(ValueError, match="must hold Fernet keys"):
        Keyring.load(path)


def test_a_project_has_so_many_endpoints_and_each_step_is_in_the_audit_log(world: World) -> None:
    with world.db.sessions.begin() as s:
        project = s.get_one(Project, world.scope.project_id)
        s.add_all(
            WebhookEndpoint(
                id=f"hook_{number}", project_id=project.id, url="u", events=[], description="", enabled=True, secret=""
            )
            for number in range(MOST - 1)
        )
    endpoint_id, _ = endpoint(world)
    with pytest.raises(Refused) as refused:
        endpoint(world)
    assert refused.value.problem.code == "endpoint_limit"
    rotate(world, endpoint_id, 1)
    ping(world, endpoint_id)
    change(world, endpoint_id, description="x")
    with world.db.sessions.begin() as s:
        service.delete_endpoint(s, world.scope, endpoint_id)
        steps = s.scalars(select(Audit.action).where(Audit.object == endpoint_id).order_by(Audit.id)).all()
    assert [step.partition(".")[2] for step in steps] == ["create", "rotate_secret", "test", "update", "delete"]


@pytest.mark.parametrize("events", [("job.sneezed",), ("*", "job.failed"), ("job.failed", "job.failed"), ("job.*",)])
def test_types_that_do_not_exist_are_refused(events: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="events"):
        EndpointCreate(url="https://hooks.example/", events=events)  # type: ignore[arg-type]
