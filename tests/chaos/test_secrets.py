"""Secrets of a service that works (D24): none stands in its database, its logs, its answers or its processes' names."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import make_url

from jobs.backup import FILES, back_up
from jobs.keys import new_token
from jobs.settings import Settings
from tests.chaos.crew import Crew, command
from tests.chaos.storm import Poster, Storm, api, place
from tests.worker.scene import Scene

KEYS, ENDPOINTS, PASSWORD = 190, 10, "correct-horse-battery-staple"


@pytest.fixture(params=["embedded", pytest.param("postgresql", marks=pytest.mark.chaos)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with place(request.param, tmp_path / "data") as (made, _):
        key = tmp_path / "key"
        key.write_text(new_token())
        url = make_url(made.database_url)
        if request.param == "postgresql":  # which trusts whoever is here, whatever the password
            url = url.set(password=PASSWORD)
        yield made.model_copy(
            update={"bootstrap_key_file": key, "database_url": url.render_as_string(hide_password=False)}
        )


def visible(token: str) -> str:
    """The half of a token that nobody may see; the other half names its row."""
    return token.split("_", 2)[2] if token.startswith("lp_") else token.partition("_")[2]


@pytest.mark.usefixtures("postgresql_programs")
def test_two_hundred_secrets_are_nowhere_to_be_found(settings: Settings, tmp_path: Path) -> None:
    """After keys were made, used, mistyped, rotated and revoked, endpoints signed for, and requests refused."""
    environment = {**settings.environment(), "CHAOS_NOTES": str(tmp_path / "notes")}
    token = Path(str(settings.bootstrap_key_file)).read_text()
    secrets, answers = [token], []
    with api(environment), httpx2.Client(base_url=f"http://127.0.0.1:{settings.port}", timeout=30) as client:
        crew = Crew(1, environment, log=tmp_path / "worker.log")
        try:
            scene = Scene(settings)
            Poster(str(client.base_url), Storm(scene)).wait()
            client.headers["authorization"] = f"Bearer {token}"
            for number in range(KEYS):
                made = client.post("/v1/api_keys", json={"name": f"key {number}"}).raise_for_status().json()
                secrets.append(made["token"])
                as_it = {"authorization": f"Bearer {made['token']}"}
                answers.append(client.get("/v1/me", headers=as_it).raise_for_status())
                answers.append(client.get("/v1/me", headers={"authorization": f"Bearer {made['token']}x"}))
                client.post("/v1/jobs", json={"model": made["token"]}, headers=as_it)  # who mistypes is told what
                client.get("/v1/jobs", params={"name": made["token"]}, headers=as_it)
                if number % 10 == 0:
                    rotated = client.post(f"/v1/api_keys/{made['id']}/rotate", json={"grace_s": 60}).json()
                    secrets.append(rotated["token"])
                    for each in (made, rotated):  # both work: nobody is cut off
                        client.get("/v1/me", headers={"authorization": f"Bearer {each['token']}"}).raise_for_status()
                if number % 10 == 1:
                    client.delete(f"/v1/api_keys/{made['id']}").raise_for_status()
                    assert client.get("/v1/me", headers=as_it).status_code == 401
            for number in range(ENDPOINTS):
                url = f"http://127.0.0.1:9/{number}"
                made = client.post("/v1/webhook_endpoints", json={"url": url}).raise_for_status().json()
                secrets.append(made["secret"])
                answers.append(client.post(f"/v1/webhook_endpoints/{made['id']}/test"))
            job = Poster(str(client.base_url), Storm(scene), dict(client.headers)).inputs(
                [{"steps": 3, "babble": True}]
            )
            scene.wait(client.post("/v1/jobs", json=job[0]).raise_for_status().json()["id"])
            names = b"".join(command(int(one.name)) for one in Path("/proc").glob("[0-9]*"))
            scene.db.dispose()
        finally:
            crew.leave()
    back_up(settings, tmp_path / "kept")
    dumped = tmp_path / "kept" / FILES[make_url(settings.database_url).get_backend_name()]
    if dumped.suffix == ".dump":
        plain = subprocess.run(["pg_restore", "--file=-", str(dumped)], capture_output=True, check=True, env=os.environ)
        database = plain.stdout
    else:
        database = dumped.read_bytes()
    seen = {
        "database": database,
        "log of the API": (settings.data_dir / "api.log").read_bytes(),
        "log of the worker": (tmp_path / "worker.log").read_bytes(),
        "answers": b"".join(answer.content for answer in answers),
        "names of processes": names,
    }
    public = made["id"].encode()  # the last endpoint's, so that the places are those where a secret would stand
    assert public in seen["database"]
    assert public in seen["log of the worker"]
    assert token[3:29].encode() in seen["log of the API"]
    hidden = [visible(one).encode() for one in secrets] + [PASSWORD.encode()]
    assert len(hidden) > 200
    assert not [(where, one) for where, text in seen.items() for one in hidden if one in text]
