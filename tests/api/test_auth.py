"""Who is let in: by key where keys exist, from this machine only where none does."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from api.app import create_app
from jobs.keys import create_key, new_token, revoke_key
from jobs.problem import Problem
from jobs.scope import AREAS, SCOPES, Scope
from jobs.settings import Settings
from tests.api.conftest import LOCAL, database_of, local
from tests.api.problems import problem
from tests.api.routes import OPEN, filled, operations

ADMIN = ("/v1/api_keys", "/v1/audit")
OF_ALL = ("catalogue", "account")  # open to every key


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_without_keys_a_local_caller_is_the_default_project(client: TestClient) -> None:
    """Everything is allowed; a key that is sent anyway does no harm."""
    me = client.get("/v1/me").json()
    assert (me["who"], me["scopes"]) == ("local", ["admin", "read", "write"])
    assert client.get("/v1/me", headers=bearer("whatever")).json() == me


@pytest.mark.parametrize("host", ["localhost", "localhost:8642", "127.0.0.1:1", "[::1]", "[::1]:8642", "127.9.9.9"])
def test_names_of_this_machine_are_accepted_as_host(client: TestClient, host: str) -> None:
    assert client.get("/v1/me", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8642",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.7",
        "0.0.0.0",
        "2130706433",
        "localhost:evil",
        "localhost@evil.example",
        "",
    ],
)
def test_a_rebound_name_is_refused_as_host_on_every_route(client: TestClient, host: str) -> None:
    """A page of a stranger whose name now points here gets 403, not our data."""
    problem(client.get("/v1/me", headers={"Host": host}), 403, "origin_refused")
    for method, path, _ in operations(client):
        if path not in OPEN:
            answer = client.request(method, filled(path, "config.json"), headers={"Host": host})
            problem(answer, 403)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:3000", "http://localhost:8642", ""]
)
def test_a_foreign_origin_is_refused(client: TestClient, origin: str) -> None:
    """Another page of this machine is foreign too: another port, another name."""
    problem(client.get("/v1/me", headers={"Origin": origin}), 403, "origin_refused")
    problem(client.post("/v1/jobs/x/cancel", headers={"Origin": origin}), 403, "origin_refused")


def test_our_own_page_is_welcome(client: TestClient) -> None:
    """Its origin is the host that it was loaded from."""
    assert client.get("/v1/me", headers={"Origin": LOCAL}).status_code == 200


def test_without_keys_a_caller_from_elsewhere_is_refused(settings: Settings) -> None:
    """Also where a proxy, or another way to start the server, lets him reach the port."""
    with TestClient(create_app(settings), base_url=LOCAL, client=("192.0.2.7", 1)) as client:
        problem(client.get("/v1/me"), 403, "origin_refused")
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_without_keys_the_network_is_not_served(fresh: Settings, host: str) -> None:
    """The app refuses to start, and says what to do."""
    with (
        pytest.raises(RuntimeError, match="LADAPRESS_BOOTSTRAP_KEY_FILE"),
        local(fresh.model_copy(update={"host": host})),
    ):
        pass


def test_the_bootstrap_key_opens_the_network_and_closes_the_keyless_door(fresh: Settings) -> None:
    """It is written where it is not, and from then on everybody needs a key, also at this machine."""
    file = fresh.data_dir / "secrets" / "key"
    with local(fresh.model_copy(update={"host": "0.0.0.0", "bootstrap_key_file": file})) as client:
        token = file.read_text().strip()
        assert file.stat().st_mode & 0o777 == 0o600
        assert client.get("/v1/me", headers=bearer(token)).json()["scopes"] == ["admin", "read", "write"]
        far = {**bearer(token), "Host": "api.example.org", "Origin": "http://app.example.org"}
        assert client.get("/v1/me", headers=far).status_code == 200
        answer = client.get("/v1/me")
        problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_every_route_but_health_needs_the_key(fresh: Settings) -> None:
    """401 before anything else is said, also about ids and bodies."""
    with local(fresh) as client:
        with database_of(client).sessions.begin() as s:
            create_key(s, Scope(), "k")
        for method, path, _ in operations(client):
            answer = client.request(method, filled(path, "config.json"))
            if path in OPEN:
                assert answer.status_code == 200
            else:
                problem(answer, 401, "unauthorized")
        problem(client.get("/v1/jobs/x/events", headers={"Accept": "text/event-stream"}), 401, "unauthorized")


def test_wrong_and_revoked_keys_are_all_the_same(fresh: Settings) -> None:
    """Malformed, unknown, right id with a wrong secret, another scheme, revoked: one answer."""
    with local(fresh) as client:
        with database_of(client).sessions.begin() as s:
            key, token = create_key(s, Scope(), "k")
        assert client.get("/v1/me", headers=bearer(token)).json()["who"] == key.id
        wrong = token[:-3] + ("abc" if not token.endswith("abc") else "xyz")
        details = set()
        for sent in ("x", new_token(), wrong, token.upper(), token + "x", "lp__", "\xff", "a" * 9_000):
            answer = client.get("/v1/me", headers={"Authorization": f"Bearer {sent}".encode("latin-1")})
            details.add(problem(answer, 401, "unauthorized")["detail"])
        with database_of(client).sessions.begin() as s:
            revoke_key(s, Scope(), key.id)
        details.add(problem(client.get("/v1/me", headers=bearer(token)), 401)["detail"])
        assert len(details) == 1
        for sent in (token, f"Basic {token}", "Bearer", ""):
            problem(client.get("/v1/me", headers={"Authorization": sent}), 401, "unauthorized")


def test_revoking_the_last_key_does_not_open_the_door(fresh: Settings) -> None:
    """Also after a restart: that keys were in use is remembered."""
    with local(fresh) as client, database_of(client).sessions.begin() as s:
        key, _ = create_key(s, Scope(), "k")
        revoke_key(s, Scope(), key.id)
    with local(fresh) as client:
        problem(client.get("/v1/me"), 401, "unauthorized")


def test_a_key_may_do_what_its_scopes_say(fresh: Settings) -> None:
    """A reader reads and may not change anything: 403 on every route that does. Keys are an admin's affair alone."""
    with local(fresh) as client:
        with database_of(client).sessions.begin() as s:
            reads = create_key(s, Scope(), "r", ["read"])[1]
            writes = create_key(s, Scope(), "w", ["write"])[1]
            all_but = create_key(s, Scope(), "a", SCOPES[:2] + SCOPES[3:])[1]
            admins = create_key(s, Scope(), "a", ["admin"])[1]
        for method, path, operation in operations(client):
            if path in OPEN:
                continue
            allowed, other = (reads, writes) if method in ("GET", "HEAD") else (writes, reads)
            url = filled(path, "config.json")
            if path.startswith(ADMIN):
                allowed, other = admins, all_but
            elif operation["tags"][0] in OF_ALL:
                assert client.request(method, url, headers=bearer(other)).status_code == 200
                continue
            refused = problem(client.request(method, url, headers=bearer(other)))
            if refused:
                assert Problem.model_validate(refused).code == "forbidden", (method, path, refused)
            assert client.request(method, url, headers=bearer(allowed)).status_code != 403


def test_every_route_belongs_to_an_area_that_keys_can_be_narrowed_to(client: TestClient) -> None:
    """A route whose tag nobody lists would be read by every key."""
    tags = {operation["tags"][0] for _, path, operation in operations(client) if path not in OPEN}
    assert tags == {*AREAS, *OF_ALL}


def test_a_narrow_key_does_what_it_names_and_nothing_beside(fresh: Settings) -> None:
    """`jobs:read` looks at jobs, also as a stream, and at nothing else of the project."""
    with local(fresh) as client:
        with database_of(client).sessions.begin() as s:
            token = create_key(s, Scope(), "narrow", ["jobs:read", "artifacts:write"])[1]
        for method, path, operation in operations(client):
            if path in OPEN:
                continue
            area, action = operation["tags"][0], "read" if method in ("GET", "HEAD") else "write"
            mine = (area, action) in (("jobs", "read"), ("artifacts", "write"))
            mine = (mine or (area in OF_ALL and action == "read")) and not path.startswith(ADMIN)
            status = client.request(method, filled(path, "config.json"), headers=bearer(token)).status_code
            assert (status != 403) == mine, (method, path)
        stream = {**bearer(token), "Accept": "text/event-stream"}
        problem(client.get("/v1/jobs/job_x/events", headers=stream), 404)
