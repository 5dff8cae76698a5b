"""The published keys: for everybody, and enough to check an artifact by."""

from __future__ import annotations

from typing import Any

from fastapi.testclient import TestClient
from sqlalchemy import update

from jobs import service
from jobs.keys import create_key
from jobs.scope import Scope
from jobs.settings import Settings
from jobs.signing import SigningKey, thumbprint
from jobs.signing_keys import retire
from jobs.tables import SigningKey as Row
from tests.api.conftest import database_of, local
from tests.jobs.world import World

URL = "/.well-known/ladapress-keys.json"


def test_the_key_set_is_a_jwk_set_that_may_be_kept_for_a_while(client: TestClient, world: World) -> None:
    """Oldest first, retired ones marked, with who endorsed whom."""
    assert client.get(URL).json() == {"keys": []}
    old, new = SigningKey.fresh(), SigningKey.fresh()
    with world.db.sessions.begin() as s:
        service.register_signing_key(s, old)
        s.execute(update(Row).values(created_at=Row.created_at - 1))  # SQLite's clock counts in milliseconds
        service.register_signing_key(s, new, endorsed_by=old)
        retire(s, old.kid)
    answer = client.get(URL)
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    first, second = answer.json()["keys"]
    for found, key in ((first, old), (second, new)):
        fixed = {name: found[name] for name in ("kty", "crv", "use", "kid", "x")}
        assert fixed == {"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": thumbprint(found["x"]), "x": key.x}
    assert first["retired_at"].endswith("Z")
    assert (first["endorsed_by"], second["retired_at"], second["endorsed_by"]) == (None, None, old.kid)
    assert second["endorsement"] == old.endorse(new.kid)


def test_projects_and_strangers_read_the_same_keys(fresh: Settings) -> None:
    """Keys are the service's, not a project's: with the key of one, of another, with none, from any host."""
    with local(fresh) as client:
        with database_of(client).sessions.begin() as s:
            service.register_signing_key(s, SigningKey.fresh())
        other = World(database_of(client), fresh, iter(())).other()
        tokens = []
        for scope in (Scope(), other.scope):
            with database_of(client).sessions.begin() as s:
                tokens.append(create_key(s, scope, "k", ["read"])[1])
        asked: list[dict[str, Any]] = [{}, {"Host": "api.example.org"}]
        asked += [{"Authorization": f"Bearer {token}"} for token in tokens]
        answers = [client.get(URL, headers=headers) for headers in asked]
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.content for answer in answers}) == 1
        assert len(answers[0].json()["keys"]) == 1
