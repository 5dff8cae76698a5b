"""Tokens of an issuer: good ones open their project, and every other token in the world stays outside."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi.testclient import TestClient

from api import oidc
from api.rates import Rates
from jobs.projects import create_project, delete_project
from jobs.scope import DEFAULT_PROJECT, PROJECT_HEADER
from jobs.settings import Settings
from tests.api.conftest import copy_of, database_of, local
from tests.api.problems import problem

RSA = rsa.generate_private_key(65537, 2048)
STRANGER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def public(key: Any, kid: str, alg: str, **fields: str) -> dict[str, Any]:
    form = jwt.get_algorithm_by_name(alg).to_jwk(key.public_key(), as_dict=True)
    return {**form, "kid": kid, "alg": alg, "use": "sig", **fields}


@dataclass
class Played:
    """An issuer on a port of its own, and what was asked of it."""

    url: str = ""
    keys: list[dict[str, Any]] = field(default_factory=lambda: [public(RSA, "one", "RS256")])
    jwks_uri: str = ""
    asked: list[str] = field(default_factory=list)
    down: bool = False

    def token(self, key: Any = RSA, alg: str = "RS256", kid: str | None = "one", **claims: Any) -> str:
        now = int(time.time())
        whole = {"iss": self.url, "aud": "ladapress", "sub": "alice", "exp": now + 600, "ladapress_project": "team"}
        whole = {name: value for name, value in {**whole, **claims}.items() if value is not None}
        return jwt.encode(whole, key, alg, headers={} if kid is None else {"kid": kid})


@pytest.fixture(scope="module")
def player() -> Iterator[Played]:
    played = Played()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            played.asked.append(self.path)
            bodies = {
                "/.well-known/openid-configuration": {"issuer": played.url, "jwks_uri": played.jwks_uri},
                "/keys": {"keys": played.keys},
            }
            body = json.dumps(bodies.get(self.path, {})).encode()
            self.send_response(503 if played.down else 302 if self.path == "/moved" else 200)
            self.send_header("Location", f"{played.url}/keys")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, name="issuer").start()
    played.url = f"http://127.0.0.1:{server.server_port}"
    yield played
    server.shutdown()
    server.server_close()


@pytest.fixture
def issuer(player: Played) -> Played:
    """As nobody has asked it yet."""
    fresh = Played(url=player.url, jwks_uri=f"{player.url}/keys")
    vars(player).update(vars(fresh))
    return player


@pytest.fixture(scope="module")
def app(player: Played, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A service that takes the issuer's tokens."""
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("data"),
        database_url=copy_of(sqlite_template, tmp_path_factory),
        oidc_issuer=player.url,
        oidc_audience="ladapress",
        oidc_projects={"team": DEFAULT_PROJECT, "gone": "proj_" + 26 * "1"},
        oidc_algorithms=("RS256", "ES256"),
    )
    with local(settings) as client:
        yield client


Enter = Callable[..., Any]


@pytest.fixture
def served(app: TestClient, issuer: Played) -> tuple[TestClient, Enter]:
    """The service as it starts, and a way to ask it who one is."""
    context = app.app.state.context  # type: ignore[attr-defined]
    context.issuer, context.rates = oidc.Issuer(context.settings), Rates(context.settings)

    def enter(token: str, **headers: str) -> Any:
        return app.get("/v1/me", headers={"Authorization": f"Bearer {token}", **headers})

    return app, enter


def test_a_good_token_opens_its_project(served: tuple[TestClient, Enter], issuer: Played) -> None:
    """Its keys are found by discovery, and fetched once. Without a token the door is closed, also for this machine."""
    client, enter = served
    for _ in range(3):
        me = enter(issuer.token())
        assert me.status_code == 200, me.text
    assert (me.json()["project_id"], me.json()["who"]) == (DEFAULT_PROJECT, "oidc:alice")
    assert (me.json()["scopes"], me.json()["key"]) == (["read", "write"], None)
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"]
    problem(client.get("/v1/me"), 401, "unauthorized")


def unsigned(issuer: Played) -> str:
    return jwt.encode({"iss": issuer.url, "aud": "ladapress", "sub": "a", "exp": 2e9}, "", "none", {"kid": "one"})


def signed_with_the_public_key(issuer: Played) -> str:
    """The classic confusion: HMAC, with what everybody can fetch as the secret."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, form)
    head, body, _ = issuer.token().split(".")
    from jwt.utils import base64url_encode

    head = base64url_encode(json.dumps({"alg": "HS256", "typ": "JWT", "kid": "one"}).encode()).decode()
    import hashlib
    import hmac

    mac = hmac.new(pem, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64url_encode(mac).decode()}"


BAD: dict[str, Callable[[Played], str]] = {
    "expired": lambda i: i.token(exp=int(time.time()) - 60),
    "never expires": lambda i: i.token(exp=None),
    "not yet": lambda i: i.token(nbf=int(time.time()) + 600),
    "another audience": lambda i: i.token(aud="another"),
    "no audience": lambda i: i.token(aud=None),
    "another issuer": lambda i: i.token(iss="https://evil.example"),
    "an issuer almost": lambda i: i.token(iss=f"{i.url}/"),
    "no issuer": lambda i: i.token(iss=None),
    "no subject": lambda i: i.token(sub=None),
    "a subject that breaks lines": lambda i: i.token(sub="a\nb"),
    "another key": lambda i: i.token(STRANGER),
    "no key id": lambda i: i.token(kid=None),
    "an unknown key id": lambda i: i.token(kid="two"),
    "an algorithm that is not listed": lambda i: i.token(alg="RS512"),
    "no signature": unsigned,
    "HMAC with the public key": signed_with_the_public_key,
    "cut": lambda i: i.token()[:-4],
    "no token": lambda _: "a.b.c",
    "many dots": lambda i: i.token() + ".x",
    "huge": lambda _: "a" * 8_000 + ".b.c",
}


def test_every_other_token_stays_outside(served: tuple[TestClient, Enter], issuer: Played) -> None:
    """401 in the same words as a wrong key, and no way to tell which check failed."""
    _, enter = served
    details = {problem(enter(make(issuer)), 401, "unauthorized")["detail"] for make in BAD.values()}
    assert details == {problem(enter("lp_x"), 401)["detail"]}
    assert enter(issuer.token()).status_code == 200


def test_a_key_that_the_issuer_adds_is_fetched_and_floods_of_unknown_ones_are_not(
    served: tuple[TestClient, Enter], issuer: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most one fetch in half a minute, whatever names tokens bear."""
    client, enter = served
    assert enter(issuer.token()).status_code == 200
    for number in range(20):
        enter(issuer.token(kid=f"made up {number}"))
    assert issuer.asked.count("/keys") == 1
    issuer.keys.append(public(EC, "new", "ES256"))
    keys = client.app.state.context.issuer._keys  # type: ignore[attr-defined]
    monkeypatch.setattr(keys, "cooldown_duration", 0)  # half a minute later
    assert enter(issuer.token(EC, "ES256", "new")).status_code == 200
    assert issuer.asked.count("/keys") == 2


def test_keys_that_must_not_check_signatures_do_not(served: tuple[TestClient, Enter], issuer: Played) -> None:
    """One for encryption, and one that is a shared secret."""
    _, enter = served
    secret = {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "oct", "alg": "HS256"}
    issuer.keys += [public(STRANGER, "enc", "RS256", use="enc"), secret]
    problem(enter(issuer.token(STRANGER, kid="enc")), 401)
    problem(enter(issuer.token(b"secret-secret-secret-secret-secret", "HS256", "oct")), 401)


def test_an_issuer_that_is_away_is_503_and_not_asked_again_at_once(
    served: tuple[TestClient, Enter], issuer: Played
) -> None:
    """API keys go on; when it is back, so are its tokens."""
    client, enter = served
    issuer.down = True
    for _ in range(3):
        answer = enter(issuer.token())
        assert problem(answer, 503, "unavailable")["retryable"]
    assert len(issuer.asked) == 1
    issuer.down = False
    client.app.state.context.issuer._keys._quiet_until = 0  # type: ignore[attr-defined]
    assert enter(issuer.token()).status_code == 200


@pytest.mark.parametrize("where", ["http://127.0.0.1:1/keys", "file:///etc/passwd", "{url}/moved"])
def test_keys_are_fetched_from_the_issuer_alone(served: tuple[TestClient, Enter], issuer: Played, where: str) -> None:
    """Neither discovery nor a redirect leads elsewhere."""
    issuer.jwks_uri = where.format(url=issuer.url)
    problem(served[1](issuer.token()), 503, "unavailable")
    assert "/keys" not in issuer.asked


def test_projects_come_from_the_claim(served: tuple[TestClient, Enter], issuer: Played) -> None:
    """One, or one of several by a header; none, an unknown or a deleted one is 403."""
    _, enter = served
    for claim in (None, 7, "nobody", [], ["nobody"], "gone", DEFAULT_PROJECT):
        problem(enter(issuer.token(ladapress_project=claim)), 403, "forbidden")
    assert enter(issuer.token(ladapress_project=["nobody", "team"])).status_code == 200
    several = issuer.token(ladapress_project=["team", "gone"])
    assert PROJECT_HEADER in problem(enter(several), 403, "forbidden")["detail"]
    assert enter(several, **{PROJECT_HEADER: DEFAULT_PROJECT}).status_code == 200
    problem(enter(several, **{PROJECT_HEADER: "proj_other"}), 403, "forbidden")


def test_without_a_map_the_claim_holds_project_ids_and_scopes_may_be_claimed(fresh: Settings, issuer: Played) -> None:
    """A list or words; names that are not ours are left out, and none of ours is 403. Deleted is gone."""
    update = {"oidc_issuer": issuer.url, "oidc_audience": "ladapress", "oidc_scopes_claim": "scope"}
    with local(fresh.model_copy(update=update)) as client:
        with database_of(client).sessions.begin() as s:
            project = create_project(s, "nlp").id

        def enter(**claims: Any) -> Any:
            token = issuer.token(ladapress_project=project, **claims)
            return client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})

        me = enter(scope="openid jobs:write read").json()
        assert (me["project_id"], me["project_name"], me["scopes"]) == (project, "nlp", ["jobs:write", "read"])
        assert enter(scope=["admin"]).json()["scopes"] == ["admin"]
        for nothing in (None, "openid", 3):
            problem(enter(scope=nothing), 403, "forbidden")
        with database_of(client).sessions.begin() as s:
            delete_project(s, project)
        problem(enter(scope="read"), 403, "forbidden")


@pytest.mark.parametrize(
    "fields",
    [
        {"oidc_issuer": "https://id.example"},
        {"oidc_issuer": "http://id.example", "oidc_audience": "x"},
        {"oidc_issuer": "http://localhost.evil.example", "oidc_audience": "x"},
        {"oidc_issuer": "https://id.example?x", "oidc_audience": "x"},
        {"oidc_issuer": "https://id.example", "oidc_audience": "x", "oidc_algorithms": ("HS256",)},
        {"oidc_issuer": "https://id.example", "oidc_audience": "x", "oidc_algorithms": ()},
        {"oidc_jwks_url": "ftp://id.example/keys"},
    ],
)
def test_settings_that_would_let_others_in_stop_the_start(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="oidc_"):
        Settings(**fields)
