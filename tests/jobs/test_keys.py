"""API keys: only the holder of the secret gets in, and the database could not tell anybody the secret."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select, text

from jobs.keys import any_key, authenticate, bootstrap, create_key, new_token, revoke_key
from jobs.problem import Refused
from jobs.scope import DEFAULT_PROJECT, Scope
from jobs.tables import ApiKey, Base
from tests.jobs.world import World


def make(world: World, *scopes: str) -> tuple[str, str]:
    """(key id, token) of a fresh key."""
    with world.db.sessions.begin() as s:
        key, token = create_key(s, world.scope, "test", scopes or ("read",))
    return key.id, token


def enter(world: World, token: str) -> Scope | None:
    with world.db.readers() as s:
        return authenticate(s, token)


def test_a_token_opens_its_project_with_its_scopes(world: World) -> None:
    other = world.other()
    key_id, token = make(other, "read", "write")
    assert enter(world, token) == Scope(other.scope.project_id, who=key_id, scopes=frozenset({"read", "write"}))


def test_every_other_token_stays_outside(world: World) -> None:
    """One changed character, another key's secret, a cut, NUL, nothing: None, never an error."""
    _, token = make(world)
    _, second = make(world)
    other_last = "A" if token[-1] != "A" else "B"
    swapped = token[: -len("x" * 43)] + second[-43:]
    for wrong in (
        token[:-1] + other_last,
        swapped,
        token[:-1],
        token + "A",
        "",
        "lp__",
        "\x00",
        "lp_\ud800",
        "a" * 9999,
    ):
        assert enter(world, wrong) is None
    assert enter(world, new_token()) is None
    assert enter(world, token) is not None


def test_a_revoked_key_is_out_at_once_and_for_good(world: World) -> None:
    """Revoking the last one does not open the door either."""
    key_id, token = make(world)
    for _ in range(2):
        with world.db.sessions.begin() as s:
            revoked_at = revoke_key(s, world.scope, key_id).revoked_at
        assert enter(world, token) is None
    with world.db.readers() as s:
        assert any_key(s)
        assert s.scalars(select(ApiKey.revoked_at)).one() == revoked_at


def test_no_secret_is_in_the_database(world: World) -> None:
    tokens = [make(world)[1] for _ in range(20)]
    with world.db.readers() as s:
        dump = "".join(
            str(tuple(row)) for table in Base.metadata.tables for row in s.execute(text(f'SELECT * FROM "{table}"'))
        )
    assert "key.create" in dump
    for token in tokens:
        assert token.split("_", 2)[2] not in dump


def test_an_unknown_scope_is_refused(world: World) -> None:
    for scopes in (("root",), ()):
        with pytest.raises(Refused) as caught, world.db.sessions.begin() as s:
            create_key(s, world.scope, "k", scopes)
        assert caught.value.problem.param == "/scopes"


def test_the_bootstrap_file_lets_its_key_in_and_doing_it_again_changes_nothing(world: World, tmp_path: Path) -> None:
    """Revoked stays revoked, however often the service starts."""
    path = tmp_path / "key"
    path.write_text((token := new_token()) + "\n")
    settings = world.settings.model_copy(update={"bootstrap_key_file": path})
    for _ in range(2):
        with world.db.sessions.begin() as s:
            key_id = bootstrap(s, settings)
    scope = enter(world, token)
    assert scope is not None
    assert (scope.project_id, scope.who) == (DEFAULT_PROJECT, key_id)
    scope.need("admin")
    with world.db.sessions.begin() as s:
        revoke_key(s, scope, str(key_id))
        bootstrap(s, settings)
    assert enter(world, token) is None


def test_a_missing_bootstrap_file_is_written_once_for_its_owner_only(world: World, tmp_path: Path) -> None:
    """Many processes start together and agree on one key."""
    path = tmp_path / "secrets" / "key"
    settings = world.settings.model_copy(update={"bootstrap_key_file": path})

    def start(_: int) -> str | None:
        with world.db.sessions.begin() as s:
            return bootstrap(s, settings)

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(start, range(6)))) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["key"]
    assert enter(world, path.read_text().strip()) is not None


def test_a_bootstrap_file_with_something_else_stops_the_start(world: World, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("changeme")
    with pytest.raises(ValueError, match="lp_"), world.db.sessions.begin() as s:
        bootstrap(s, world.settings.model_copy(update={"bootstrap_key_file": path}))


def test_without_a_bootstrap_file_there_is_no_key(world: World) -> None:
    with world.db.sessions.begin() as s:
        assert bootstrap(s, world.settings) is None
        assert not any_key(s)
