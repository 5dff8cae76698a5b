"""Models and datasets from places that the operator has opened: from nowhere else, by no trick."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr, ValidationError

from jobs.settings import Settings
from jobs.stores import bucket_at
from tests.api.conftest import local
from tests.api.problems import problem
from tests.api.test_uploads import CODE, SAFETENSORS, left_behind
from tests.s3 import BUCKET, S3
from tests.worker.hub import Hub, Repository, hub

CSV = b"text,label\ngood,1\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is open, with a model, rows, and ways out of it."""
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.csv").write_bytes(CSV)
    place = tmp_path_factory.mktemp("open")
    model = place / "bert"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(SAFETENSORS)
    (model / "optimizer.pt").write_bytes(CODE["zip"])  # what training leaves behind
    (place / "rows.csv").write_bytes(CSV)
    (place / "inner.csv").symlink_to(place / "rows.csv")
    (place / "outer.csv").symlink_to(outside / "secret.csv")
    (place / "elsewhere").symlink_to(outside)
    os.mkfifo(place / "pipe.csv")
    pickled = place / "pickled"
    pickled.mkdir()
    (pickled / "model.safetensors").write_bytes(CODE["pickle 4"])
    (place / "nothing").mkdir()
    return place


@pytest.fixture(scope="module")
def opened(settings: Settings, place: Path, s3: S3) -> Settings:
    """The place, and a prefix of a bucket."""
    theirs = s3.settings(place).model_dump(
        include={"store_endpoint", "store_region", "store_access_key_id", "store_secret_access_key"}
    )
    return settings.model_copy(update={**theirs, "sources": f"{place.as_uri()}, s3://{BUCKET}/open/models"})


@pytest.fixture
def sourced(client: TestClient, opened: Settings) -> Iterator[TestClient]:
    with local(opened) as found:
        yield found


def test_a_model_is_taken_from_a_folder(sourced: TestClient, place: Path) -> None:
    """Ready at once, with those of its files that a model may have."""
    answer = sourced.post("/v1/models", json={"name": "bert", "source": (place / "bert").as_uri()})
    model = answer.json()
    assert (answer.status_code, model["status"], model["name"]) == (201, "ready", "bert")
    assert [file["path"] for file in model["files"]] == ["config.json", "model.safetensors"]
    assert model["files"][1]["sha256"] == hashlib.sha256(SAFETENSORS).hexdigest()
    assert sourced.get(answer.headers["location"]).json() == model


def test_a_dataset_is_taken_from_a_file(sourced: TestClient, place: Path) -> None:
    """Also by a link that stays inside."""
    for name in ("rows.csv", "inner.csv"):
        answer = sourced.post("/v1/datasets", params={"source": (place / name).as_uri()})
        assert (answer.status_code, answer.json()["format"], answer.json()["name"]) == (201, "csv", name)
        assert answer.json()["sha256"] == hashlib.sha256(CSV).hexdigest()


def test_a_bucket_is_a_source_too(sourced: TestClient, opened: Settings) -> None:
    """Below the prefix that is open; its neighbour of a longer name is not."""
    bucket = bucket_at(opened, BUCKET, None, opened.store_endpoint)
    for key, content in (
        ("open/models/bert/config.json", b"{}"),
        ("open/models/bert/model.safetensors", SAFETENSORS),
        ("open/models/bert/deeper/vocab.txt", b"x"),
        ("open/models/rows.csv", CSV),
        ("open/models-of-others/rows.csv", CSV),
    ):
        obstore.put(bucket, key, content)
    model = sourced.post("/v1/models", json={"source": f"s3://{BUCKET}/open/models/bert"}).json()
    assert (model["status"], [file["path"] for file in model["files"]]) == (
        "ready",
        ["config.json", "model.safetensors"],
    )
    assert sourced.post("/v1/datasets", params={"source": f"s3://{BUCKET}/open/models/rows.csv"}).status_code == 201
    for other in ("open/models-of-others/rows.csv", "open", "", "open/models/../models-of-others/rows.csv"):
        answer = sourced.post("/v1/datasets", params={"source": f"s3://{BUCKET}/{other}"})
        problem(answer, 422, "source_unknown")
    problem(sourced.post("/v1/datasets", params={"source": "s3://another/open/models/rows.csv"}), 422, "source_unknown")


@pytest.fixture
def repositories() -> Iterator[Hub]:
    """A hub with a model of two revisions, a dataset, and a model of somebody else."""
    with hub("read-only") as made:
        for name in ("acme/bert", "acme/reviews", "other/bert"):
            made.repositories[name] = Repository(private=True)
        files = {"config.json": b"{}", "model.safetensors": SAFETENSORS, "optimizer.pt": CODE["zip"]}
        made.repositories["acme/bert"].commit("v1", "one", {"config.json": b"{}", "model.safetensors": SAFETENSORS})
        made.repositories["acme/bert"].commit("main", "two", {**files, "vocab.txt": b"[PAD]", "onnx/model.onnx": b"x"})
        made.repositories["other/bert"].commit("main", "one", files)
        made.repositories["acme/reviews"].commit("main", "one", {"rows.csv": CSV})
        yield made


def from_hub(settings: Settings, made: Hub, **more: Any) -> Settings:
    given = {"hub_endpoint": made.url, "hub_token": SecretStr("read-only"), "sources": "hf://acme,hf://datasets/acme"}
    return settings.model_copy(update={**given, **more})


def test_a_hub_is_a_source_too(client: TestClient, settings: Settings, repositories: Hub) -> None:
    """Of the owners that are open, at the revision that is asked for, only what a model may have."""
    with local(from_hub(settings, repositories)) as sourced:
        for source, files in {
            "hf://acme/bert": ["config.json", "model.safetensors", "vocab.txt"],
            "hf://acme/bert@v1": ["config.json", "model.safetensors"],
        }.items():
            answer = sourced.post("/v1/models", json={"source": source})
            assert answer.status_code == 201, answer.text
            model = answer.json()
            assert (model["status"], [file["path"] for file in model["files"]]) == ("ready", files)
            assert model["files"][1]["sha256"] == hashlib.sha256(SAFETENSORS).hexdigest()
        answer = sourced.post("/v1/datasets", params={"source": "hf://datasets/acme/reviews/rows.csv"})
        assert (answer.status_code, answer.json()["sha256"]) == (201, hashlib.sha256(CSV).hexdigest())
        asked = len(repositories.requests)
        for source in ("hf://other/bert", "hf://acme", "hf://acmeother/bert", "hf://datasets/other/reviews"):
            problem(sourced.post("/v1/models", json={"source": source}), 422, "source_unknown")
        assert len(repositories.requests) == asked  # nobody was asked about what is not open
        for source in ("hf://acme/none", "hf://acme/bert@v9", "hf://acme/bert/none.json"):
            problem(sourced.post("/v1/models", json={"source": source}), 422, "source_unknown")
        repositories.failing = 500
        problem(sourced.post("/v1/models", json={"source": "hf://acme/bert"}), 503, "unavailable")
    repositories.failing = None
    with local(from_hub(settings, repositories, hub_token=None)) as anybody:
        problem(anybody.post("/v1/models", json={"source": "hf://acme/bert"}), 422, "source_unknown")
    with local(from_hub(settings, repositories, hub_endpoint="http://127.0.0.1:9")) as lost:
        problem(lost.post("/v1/models", json={"source": "hf://acme/bert"}), 503, "unavailable")


def test_nothing_leads_out_of_a_source(sourced: TestClient, opened: Settings, place: Path) -> None:
    """Links, dots, pipes, other schemes; what is outside is answered like what does not exist."""
    tried = [
        (place / "outer.csv").as_uri(),
        (place / "elsewhere" / "secret.csv").as_uri(),
        f"{place.as_uri()}/../{place.name}/rows.csv",
        f"{place.as_uri()}/%2e%2e/{place.name}/rows.csv",
        (place / "pipe.csv").as_uri(),
        (place / "absent.csv").as_uri(),
        f"{place.as_uri()}/rows.csv%00",
        f"{place.as_uri()}/rows.csv?x",
        "file:///etc/passwd",
        "file:///proc/self/environ",
        f"file://host{place}/rows.csv",
        str(place / "rows.csv"),
        "http://127.0.0.1/rows.csv",
        "hf://acme/bert",
        "file:///" + "x" * 190,
    ]
    for source in tried:
        answer = sourced.post("/v1/datasets", params={"source": source})
        found = problem(answer, 422, "source_unknown")
        assert found["param"] == "query.source"
    for source in ((place / "elsewhere").as_uri(), place.parent.as_uri(), (place / "nothing").as_uri()):
        problem(sourced.post("/v1/models", json={"source": source}), 422, "source_unknown")
    assert left_behind(opened) == []


def test_what_is_taken_is_held_to_the_rules_of_uploads(sourced: TestClient, opened: Settings, place: Path) -> None:
    """First bytes, sizes, formats; nothing is kept of what is refused."""
    problem(sourced.post("/v1/models", json={"source": (place / "pickled").as_uri()}), 422, "model_unsafe")
    problem(sourced.post("/v1/datasets", params={"source": place.as_uri()}), 422, "request_invalid")
    wrong = (place / "bert" / "model.safetensors").as_uri()
    problem(sourced.post("/v1/datasets", params={"source": wrong}), 415, "unsupported_media_type")
    both = {"source": (place / "bert").as_uri(), "files": [{"path": "config.json"}]}
    problem(sourced.post("/v1/models", json=both), 422, "request_invalid")
    problem(sourced.post("/v1/models", json={}), 422, "request_invalid")
    with local(opened.model_copy(update={"max_model_bytes": 100, "max_dataset_bytes": 5})) as small:
        problem(small.post("/v1/models", json={"source": (place / "bert").as_uri()}), 413, "payload_too_large")
        problem(small.post("/v1/datasets", params={"source": (place / "rows.csv").as_uri()}), 413, "payload_too_large")
    assert left_behind(opened) == []
    assert sourced.get("/v1/models").json()["data"] == []


def test_no_source_is_open_unless_the_operator_says_so(client: TestClient, place: Path) -> None:
    found = problem(client.post("/v1/models", json={"source": (place / "bert").as_uri()}), 422, "source_unknown")
    assert "the operator has opened no source" in found["detail"]


@pytest.mark.parametrize(
    "sources", ["file:///", "/srv", "s3://", "http://host/a", "file:///srv, hub", "hf://", "hf://a/b/c"]
)
def test_a_source_that_is_none_is_refused(sources: str) -> None:
    with pytest.raises(ValidationError):
        Settings(sources=sources)
