"""Webhooks over HTTP: made, shown without their secret, changed, rotated, tried out, looked at, replayed."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.problems import problem
from tests.jobs.hooked import BAD, GONE, GOOD, all_due, claim, finish
from tests.jobs.world import World

PATH = "/v1/webhook_endpoints"
URL = "https://hooks.example/in"


def make(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post(PATH, json={"url": URL, **fields})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{PATH}/{made['id']}"
    return made


def test_a_secret_is_shown_when_it_is_made_and_never_again(client: TestClient) -> None:
    made = make(client, events=["job.failed"], description="ours")
    secret = made.pop("secret")
    assert made == {
        "id": made["id"], "object": "webhook_endpoint", "url": URL, "events": ["job.failed"], "description": "ours",
        "enabled": True, "disabled_reason": None, "failing_since": None, "old_secret_until": None,
        "created_at": made["created_at"],
    }  # fmt: skip
    path = f"{PATH}/{made['id']}"
    assert client.get(path).json() == made
    assert client.get(PATH).json()["data"] == [made]
    rotated = client.post(f"{path}/rotate_secret", json={"grace_s": 60}).json()
    assert rotated["secret"].startswith("whsec_")
    assert rotated["secret"] != secret
    assert rotated["old_secret_until"] is not None
    assert "secret" not in client.get(path).json()
    assert client.delete(path).status_code == 204
    problem(client.get(path), 404, "not_found")


def test_fields_are_changed_one_by_one(client: TestClient) -> None:
    made = make(client)
    del made["secret"]
    path = f"{PATH}/{made['id']}"
    for change in ({"enabled": False}, {"events": []}, {"url": URL + "2"}, {"description": "x"}, {"enabled": True}, {}):
        made.update(change)
        answer = client.patch(path, json=change)
        assert (answer.status_code, answer.json()) == (200, made)
    assert problem(client.patch(path, json={"url": "https://10.0.0.1/"}), 422)["param"] == "/url"
    assert client.get(path).json() == made


@pytest.mark.parametrize(
    "url",
    [
        *("http://hooks.example/", "https://127.0.0.1/", "https://0x7f000001/", "https://[::1]/", "hooks.example"),
        *("https://169.254.169.254/latest/meta-data", "https://hooks.example:22/", "https://[64:ff9b::a9fe:a9fe]/"),
        "https://user:word@hooks.example/",
    ],
)
def test_a_url_that_leads_inside_is_refused_with_what_would_be_legal(client: TestClient, url: str) -> None:
    said = problem(client.post(PATH, json={"url": url}), 422, "request_invalid")
    assert said["param"] == "/url"
    assert client.get(PATH).json()["data"] == []


def test_a_delivery_tells_what_was_tried_and_can_be_replayed(client: TestClient, world: World) -> None:
    endpoint = make(client)["id"]
    pinged = client.post(f"{PATH}/{endpoint}/test")
    assert pinged.status_code == 202
    delivery = pinged.json()
    assert delivery["message"]["type"] == delivery["type"] == "ping"
    assert delivery["message"]["data"] == {"object": "webhook_endpoint", "id": endpoint}
    path = f"{PATH}/{endpoint}/deliveries"
    for outcome, status in ((BAD, "queued"), (GOOD, "succeeded")):
        all_due(world)
        (held,) = claim(world)
        running = client.get(f"{path}?status=running").json()["data"]
        assert [each["id"] for each in running] == [delivery["id"]]
        assert finish(world, held, outcome)
        seen = client.get(f"{path}/{delivery['id']}").json()
        assert seen["status"] == status
        assert (seen["next_attempt_at"] is None) == (status != "queued")
    assert [(one["status_code"], one["error"]) for one in seen["attempts"]] == [(500, "answered 500"), (200, None)]
    assert client.get(f"{path}?status=queued").json()["data"] == []
    replayed = client.post(f"{path}/{delivery['id']}/replay")
    assert (replayed.status_code, replayed.json()["status"], replayed.json()["id"]) == (202, "queued", delivery["id"])
    (held,) = claim(world)
    assert finish(world, held, GONE)
    for refused in (f"{path}/{delivery['id']}/replay", f"{PATH}/{endpoint}/test"):
        assert "410 Gone" in problem(client.post(refused), 409, "endpoint_disabled")["detail"]
    other = make(client)["id"]
    problem(client.get(f"{PATH}/{other}/deliveries/{delivery['id']}"), 404, "not_found")


def test_a_job_says_whom_it_tells(client: TestClient, world: World) -> None:
    endpoint = make(client, events=[])["id"]
    asked = world.judged().model_dump(mode="json", exclude={"recipe"})
    webhook = {"endpoint": endpoint, "events": ["job.failed"]}
    job = client.post("/v1/jobs", json={**asked, "webhook": webhook}).json()
    assert client.get(f"/v1/jobs/{job['id']}").json()["webhook"] == webhook
    for wrong, code, param in (
        ({"endpoint": "hook_x"}, "not_found", "/webhook/endpoint"),
        ({"endpoint": endpoint, "events": []}, "request_invalid", "/webhook/events"),
        ({"endpoint": endpoint, "events": ["push.failed"]}, "request_invalid", "/webhook/events/0"),
        ({"url": URL}, "request_invalid", "/webhook/endpoint"),
    ):
        assert problem(client.post("/v1/jobs", json={**asked, "webhook": wrong}), code=code)["param"] == param
