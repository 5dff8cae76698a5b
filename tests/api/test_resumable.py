"""Resumable uploads by tus 1.0: whatever is cut, goes on; whatever is wrong, leaves nothing."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from sqlalchemy import update
from starlette.requests import ClientDisconnect

from api import appending
from api.appending import expire_now
from api.context import Context
from api.uploads import batches
from jobs.problem import refuse
from jobs.settings import Settings
from jobs.tables import Upload
from tests.api.conftest import local
from tests.api.problems import problem
from tests.api.test_uploads import CODE, SAFETENSORS, declare, left_behind
from tests.api.tus import TUS, checksum, create, made, metadata, patch, stands

ROWS = b"text,label\n" + b"a good film,1\n" * 400


def staged(settings: Settings) -> list[Path]:
    """Every file of bytes that are not whole yet."""
    return [path for path in settings.upload_dir.rglob("*") if path.is_file()]


def context_of(client: TestClient) -> Context:
    found: Context = client.app.state.context  # type: ignore[attr-defined]
    return found


def test_an_upload_in_pieces_becomes_a_dataset(client: TestClient, settings: Settings) -> None:
    """Offsets as tus says them; at the end the same object as of one POST, and no other copy of its bytes."""
    answer = create(client, ROWS)
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["upload-expires"].endswith("GMT")
    path = answer.headers["location"]
    assert stands(client, path) == 0
    first = patch(client, path, 0, ROWS[:1000])
    assert (first.status_code, first.headers["upload-offset"]) == (204, "1000")
    assert client.get(path).json()["status"] == "open"
    assert patch(client, path, 1000, iter([ROWS[1000:1500], ROWS[1500:]])).headers["upload-offset"] == str(len(ROWS))
    upload = client.get(path).json()
    assert (upload["status"], upload["received_bytes"]) == ("complete", len(ROWS))
    dataset = client.get(f"/v1/datasets/{upload['dataset_id']}").json()
    assert (dataset["format"], dataset["name"], dataset["size_bytes"]) == ("csv", "rows.csv", len(ROWS))
    assert dataset["sha256"] == upload["sha256"] == hashlib.sha256(ROWS).hexdigest()
    assert [file.read_bytes() for file in left_behind(settings)] == [ROWS]
    assert staged(settings) == []
    assert stands(client, path) == len(ROWS)
    assert client.get("/v1/uploads").json()["data"] == [upload]


def test_an_upload_becomes_a_file_of_a_model(client: TestClient) -> None:
    """Declared before, under the rules of a PUT; its sha256 may stand in the declaration."""
    sha256 = hashlib.sha256(SAFETENSORS).hexdigest()
    model = declare(client, "config.json", {"path": "model.safetensors", "sha256": sha256})
    path = made(
        client, SAFETENSORS, purpose="model_file", filename="", model=model, path="model.safetensors", sha256=""
    )
    assert patch(client, path, 0, SAFETENSORS).status_code == 204
    assert client.get(f"/v1/models/{model}").json()["missing"] == ["config.json"]
    assert client.get(path).json()["model_id"] == model


def test_what_the_service_speaks(client: TestClient, settings: Settings) -> None:
    answer = client.options("/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-extension"] == "creation,checksum,expiration,termination"
    assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256"
    assert answer.headers["tus-max-size"] == str(settings.max_model_bytes)


@pytest.mark.parametrize(
    ("pairs", "headers", "status", "code"),
    [
        ({}, {"Tus-Resumable": "0.2.2"}, 412, "tus_version"),
        ({}, {"Tus-Resumable": ""}, 412, "tus_version"),
        ({}, {"Upload-Length": "-1"}, 400, "header_invalid"),
        ({}, {"Upload-Length": "0"}, 400, "header_invalid"),
        ({}, {"Upload-Length": "9" * 19}, 400, "header_invalid"),
        ({}, {"Upload-Length": str(3 << 30)}, 413, "payload_too_large"),
        ({}, {"Upload-Metadata": "purpose !"}, 400, "header_invalid"),
        ({}, {"Upload-Metadata": "a YQ==,a YQ=="}, 400, "header_invalid"),
        ({}, {"Upload-Metadata": "x" * 5000}, 400, "header_invalid"),
        ({"purpose": "artifact"}, {}, 422, "request_invalid"),
        ({"colour": "red"}, {}, 422, "request_invalid"),
        ({"sha256": "abc"}, {}, 422, "request_invalid"),
        ({"sha256": ""}, {}, 422, "request_invalid"),
        ({"filename": "x" * 201}, {}, 422, "request_invalid"),
        ({"filename": "rows.txt"}, {}, 415, "unsupported_media_type"),
        ({"filetype": "application/jsonl"}, {}, 422, "request_invalid"),
        ({"purpose": "model_file", "model": "model_x", "path": "config.json"}, {}, 404, "not_found"),
        ({"purpose": "model_file", "model": "model_x", "path": "weights.bin"}, {}, 422, "model_unsafe"),
    ],
)
def test_creations_that_make_no_sense_are_refused(
    client: TestClient, settings: Settings, pairs: dict[str, str], headers: dict[str, str], status: int, code: str
) -> None:
    """Before the first byte, with no row and no file."""
    answer = create(client, ROWS, headers=headers, **pairs)
    problem(answer, status, code)
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert client.get("/v1/uploads").json()["data"] == []
    assert staged(settings) == []


def test_a_creation_with_a_body_is_refused(client: TestClient) -> None:
    headers = {**TUS, "Upload-Length": "2", "Content-Type": "application/json"}
    problem(client.post("/v1/uploads", content=b"{}", headers=headers), 422, "request_invalid")


def test_what_was_declared_of_a_model_holds(client: TestClient) -> None:
    """Size and sha256 of the file, and whether it may still come."""
    model = declare(client, {"path": "vocab.txt", "size": 3, "sha256": hashlib.sha256(b"abc").hexdigest()})
    same = {"purpose": "model_file", "filename": "", "model": model, "path": "vocab.txt"}
    problem(create(client, b"abcd", **same), 422, "size_mismatch")
    problem(create(client, b"abd", **same), 422, "sha256_mismatch")
    path = made(client, b"abc", **same)
    assert client.put(f"/v1/models/{model}/files/vocab.txt", content=b"abc").status_code == 200
    assert patch(client, path, 0, b"abc").status_code == 204  # as it is there already


def test_a_model_that_is_ready_takes_no_other_bytes(client: TestClient) -> None:
    model = declare(client, {"path": "vocab.txt"})
    path = made(client, b"abcd", purpose="model_file", filename="", model=model, path="vocab.txt")
    assert client.put(f"/v1/models/{model}/files/vocab.txt", content=b"abc").status_code == 200
    problem(patch(client, path, 0, b"abcd"), 409, "model_complete")
    problem(client.get(path), 404)


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Upload-Offset": "1"}, 409, "upload_offset"),
        ({"Upload-Offset": "x"}, 400, "header_invalid"),
        ({"Content-Type": "application/octet-stream"}, 415, "unsupported_media_type"),
        ({"Tus-Resumable": "1.0"}, 412, "tus_version"),
        ({"Upload-Checksum": "md5 YQ=="}, 400, "header_invalid"),
        ({"Upload-Checksum": "sha256 YQ=="}, 400, "header_invalid"),
        ({"Upload-Checksum": "sha1"}, 400, "header_invalid"),
    ],
)
def test_pieces_that_make_no_sense_move_nothing(
    client: TestClient, headers: dict[str, str], status: int, code: str
) -> None:
    path = made(client, ROWS)
    problem(patch(client, path, 0, ROWS[:9], **headers), status, code)
    assert stands(client, path) == 0


def test_no_more_bytes_are_taken_than_were_announced(client: TestClient) -> None:
    """By Content-Length before the first one, in chunks when they come."""
    path = made(client, ROWS)
    problem(patch(client, path, 0, ROWS + b"x"), 413, "payload_too_large")
    problem(patch(client, path, 0, iter([ROWS, b"x" * 2_000_000])), 413, "payload_too_large")
    assert client.get(path).json()["status"] == "open"


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_piece_whose_checksum_is_wrong_is_not_kept(client: TestClient, algorithm: str) -> None:
    """460, and the upload stands where it stood; the right bytes then go on."""
    path = made(client, ROWS)
    piece, rest = ROWS[:2000], ROWS[2000:]
    wrong = patch(client, path, 0, piece[:-1] + b"#", **{"Upload-Checksum": checksum(piece, algorithm)})
    problem(wrong, 460, "checksum_mismatch")
    assert stands(client, path) == 0
    assert patch(client, path, 0, piece, **{"Upload-Checksum": checksum(piece, algorithm)}).status_code == 204
    assert patch(client, path, 2000, rest, **{"Upload-Checksum": checksum(rest, algorithm)}).status_code == 204
    assert client.get(path).json()["status"] == "complete"


def test_a_whole_that_hashes_to_something_else_is_gone(client: TestClient, settings: Settings) -> None:
    """422; no dataset, no blob, no bytes, no upload."""
    path = made(client, ROWS, sha256=hashlib.sha256(b"another").hexdigest())
    problem(patch(client, path, 0, ROWS), 422, "sha256_mismatch")
    problem(client.get(path), 404, "not_found")
    problem(client.head(path, headers=TUS), 404)
    assert client.get("/v1/datasets").json()["data"] == []
    assert left_behind(settings) + staged(settings) == []


@pytest.mark.parametrize("pieces", [(64,), (3, 61), (3, 197)])
def test_a_pickle_is_found_out_by_its_first_bytes(
    client: TestClient, settings: Settings, pieces: tuple[int, ...]
) -> None:
    """In the first piece where that is long enough to tell, else when the last has come; never kept."""
    pickled = (CODE["pickle 4"] + bytes(200))[:200]
    model = declare(client, "model.safetensors")
    path = made(client, pickled, purpose="model_file", filename="", model=model, path="model.safetensors")
    at = 0
    for size in pieces:
        answer = patch(client, path, at, pickled[at : at + size])
        at += size
    if at < len(pickled) and len(pieces) > 1:
        answer = patch(client, path, at, pickled[at:])
    problem(answer, 422, "model_unsafe")
    problem(client.get(path), 404)
    assert staged(settings) == []


def test_a_deleted_upload_is_gone_and_what_it_became_stays(client: TestClient, settings: Settings) -> None:
    path = made(client, ROWS)
    patch(client, path, 0, ROWS[:99])
    assert client.delete(path, headers=TUS).status_code == 204
    problem(client.head(path, headers=TUS), 404)
    problem(patch(client, path, 99, ROWS[99:]), 404)
    assert staged(settings) == []
    done = made(client, ROWS)
    patch(client, done, 0, ROWS)
    dataset = client.get(done).json()["dataset_id"]
    assert client.delete(done).status_code == 204
    assert client.get(f"/v1/datasets/{dataset}").status_code == 200


def test_a_project_has_so_many_uploads_open_and_no_more(settings: Settings) -> None:
    """Complete ones do not count."""
    with local(settings.model_copy(update={"max_uploads": 2})) as client:
        first, _ = made(client, ROWS), made(client, ROWS)
        problem(create(client, ROWS), 429, "too_many_requests")
        patch(client, first, 0, ROWS)
        assert create(client, ROWS).status_code == 201


def test_an_upload_without_bytes_for_its_time_is_forgotten(client: TestClient, settings: Settings) -> None:
    """Its temporary bytes are 0 then; a byte in time prolongs its life; a file without a row goes as well."""
    context = context_of(client)
    old, kept = made(client, ROWS), made(client, ROWS)
    patch(client, old, 0, ROWS[:500])
    with context.database.sessions.begin() as s:
        s.execute(update(Upload).values(expires_at=Upload.expires_at - context.settings.upload_ttl_s))
    problem(client.head(old, headers=TUS), 404)  # even before anybody has swept
    with context.database.sessions.begin() as s:
        s.execute(update(Upload).where(Upload.id == kept.rpartition("/")[2]).values(expires_at=Upload.expires_at + 50))
    assert patch(client, kept, 0, ROWS[:500]).status_code == 204
    with context.database.sessions.begin() as s:
        s.execute(update(Upload).values(expires_at=Upload.expires_at - 100))
    expire_now(context)
    assert [path.name for path in staged(settings)] == [kept.rpartition("/")[2]]
    assert stands(client, kept) == 500
    client.delete(kept)
    (settings.upload_dir / "upl_orphan").write_bytes(b"x")
    expire_now(context)
    assert len(staged(settings)) == 1  # a creation that runs now has made its file already
    os.utime(settings.upload_dir / "upl_orphan", (0, 0))
    expire_now(context)
    assert staged(settings) == []


def test_an_upload_whose_bytes_are_lost_says_so(client: TestClient, settings: Settings) -> None:
    """410: never a whole made of a hole."""
    path = made(client, ROWS)
    patch(client, path, 0, ROWS[:500])
    (file,) = staged(settings)
    file.write_bytes(b"short")
    problem(patch(client, path, 500, ROWS[500:]), 410, "upload_lost")
    file.unlink()
    problem(patch(client, path, 500, ROWS[500:]), 410, "upload_lost")


def test_a_store_that_is_away_at_the_end_costs_the_last_byte(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, and the upload is not whole for anybody who asks; the next try makes the dataset."""
    path, store = made(client, ROWS), context_of(client).store

    def away(*_: Any, **__: Any) -> Any:
        raise refuse("unavailable", "the store does not answer", retryable=True)

    with monkeypatch.context() as patched:
        patched.setattr(store, "put_file", away)
        problem(patch(client, path, 0, ROWS), 503, "unavailable")
    assert stands(client, path) == len(ROWS) - 1
    assert patch(client, path, len(ROWS) - 1, ROWS[-1:]).status_code == 204
    assert client.get(path).json()["status"] == "complete"


def test_what_came_before_a_cut_is_given_out() -> None:
    """Also less than a piece of ours: an upload over a bad line gets somewhere."""
    events = [{"type": "http.request", "body": b"abc", "more_body": True}, {"type": "http.disconnect"}]

    async def read() -> list[bytes]:
        async def receive() -> Any:
            return events.pop(0)

        body = batches(Request({"type": "http", "headers": []}, receive))
        found = [await anext(body)]
        with pytest.raises(ClientDisconnect):
            await anext(body)
        return found

    assert anyio.run(read) == [b"abc"]


def test_a_process_that_dies_loses_only_what_it_had_not_answered_for(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes beyond the offset are of nobody: the next writer's stand there."""
    monkeypatch.setattr(appending, "SAVE_BYTES", 1000)
    path = made(client, ROWS)
    patch(client, path, 0, ROWS[:1000])
    (file,) = staged(settings)
    with file.open("ab") as torn:
        torn.write(b"#" * 10_000)
    assert stands(client, path) == 1000
    assert patch(client, path, 1000, ROWS[1000:]).status_code == 204
    assert client.get(path).json()["status"] == "complete"


def test_the_method_is_the_real_one(client: TestClient) -> None:
    """A header that names another one would pass by what was decided for the real one."""
    path = made(client, ROWS)
    headers = {**TUS, "X-HTTP-Method-Override": "DELETE"}
    assert client.get(path, headers=headers).status_code == 200
    assert stands(client, path) == 0


def test_metadata_is_utf8_in_base64(client: TestClient) -> None:
    path = made(client, ROWS, filename="сентимент.csv")
    assert client.get(path).json()["name"] == "сентимент.csv"
    assert metadata(a="b") == "a Yg=="
