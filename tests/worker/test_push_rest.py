"""What a push asks of an MLflow server, and what each answer means. The real server is in test_push_mlflow.py."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from worker.registries import mlflow
from worker.registries.order import File, Order, PushFailed, check, failure

RUN = {"run_id": "r1", "artifact_uri": "mlflow-artifacts:/7/r1/artifacts", "start_time": 1}
ANSWERS: dict[str, tuple[int, Any]] = {
    "registered-models/create": (400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "there"}),
    "model-versions/search": (200, {}),
    "experiments/create": (200, {"experiment_id": "7"}),
    "runs/search": (200, {}),
    "runs/create": (200, {"run": {"info": RUN}}),
    "runs/log-batch": (200, {}),
    "runs/update": (200, {}),
    "model-versions/create": (200, {"model_version": {"version": "3"}}),
    "registered-models/alias": (200, {}),
}


class Canned:
    """A server that answers as told, and remembers what it got."""

    def __init__(self) -> None:
        self.answers = dict(ANSWERS)
        self.files: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.authorizations: set[str | None] = set()
        canned = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None: ...

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                canned.authorizations.add(self.headers.get("Authorization"))
                path = self.path.partition("?")[0]
                if path.startswith(mlflow.FILES):
                    canned.files[path.removeprefix(mlflow.FILES)] = body
                    status, answer = 200, {}
                else:
                    canned.calls.append(name := path.removeprefix(mlflow.API + "/"))
                    status, answer = canned.answers[name]
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = _serve  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def server() -> Iterator[Canned]:
    made = Canned()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def order(url: str, folder: Path, **fields: Any) -> Order:
    files = []
    for path, content in (("model.onnx", b"graph"), ("pytorch/a b.json", b"{}"), ("manifest.json", b"{}")):
        blob = folder / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        files.append(File(path=path, blob=blob, size=len(content), sha256=blob.name))
    same: dict[str, Any] = {
        "kind": "mlflow", "url": url, "token": None, "username": None, "private": True, "experiment": "e", "to": "m",
        "revision": None, "alias": None, "artifact_id": "art_1", "files": tuple(files), "figures": {"retention": 0.9},
    }  # fmt: skip
    return Order(**{**same, **fields})


def refusal(asked: Order) -> PushFailed:
    """As the child tells it."""
    with pytest.raises(Exception) as error:
        mlflow.push(asked)
    return failure(error.value)


def test_the_version_is_made_last_of_files_that_lie_one_folder_deeper(server: Canned, tmp_path: Path) -> None:
    pushed = mlflow.push(order(server.url, tmp_path, alias="champion"))
    assert (pushed.version, pushed.unchanged, pushed.url) == ("3", False, f"{server.url}/#/models/m/versions/3")
    base = "/7/r1/artifacts/model"
    card = json.loads(server.files.pop(f"{base}/MLmodel"))
    assert card["flavors"]["onnx"]["data"] == "artifact/model.onnx"
    assert server.files == {
        f"{base}/artifact/model.onnx": b"graph",
        f"{base}/artifact/pytorch/a%20b.json": b"{}",
        f"{base}/artifact/manifest.json": b"{}",
    }
    assert server.calls[-2:] == ["model-versions/create", "registered-models/alias"]


def test_a_version_with_this_content_is_found_and_nothing_is_sent(server: Canned, tmp_path: Path) -> None:
    """A pending one, or one of other content, is not it."""
    asked = order(server.url, tmp_path)
    tags = [{"key": mlflow.TAG, "value": asked.content()}]
    listed = [
        {"version": "1", "status": "PENDING_REGISTRATION", "tags": tags},
        {"version": "2", "status": "READY", "tags": [{"key": mlflow.TAG, "value": "0"}]},
        {"version": "5", "status": "READY", "tags": tags},
    ]
    server.answers["model-versions/search"] = (200, {"model_versions": listed})
    pushed = mlflow.push(asked)
    assert (pushed.version, pushed.unchanged, server.files) == ("5", True, {})
    server.answers["model-versions/search"] = (200, {"model_versions": listed[:2]})
    assert not mlflow.push(asked).unchanged


@pytest.mark.parametrize(
    ("fields", "header"),
    [
        ({"token": "t"}, "Bearer t"),
        ({"token": "t", "username": "u"}, f"Basic {base64.b64encode(b'u:t').decode()}"),
        ({}, None),
    ],
)
def test_who_pushes_is_told_as_the_operator_says(
    server: Canned, tmp_path: Path, fields: dict[str, str], header: str | None
) -> None:
    mlflow.push(order(server.url, tmp_path, **fields))
    assert server.authorizations == {header}


@pytest.mark.parametrize(
    ("call", "answer", "code", "said"),
    [
        ("registered-models/create", (401, b"no"), "registry_refused", "401"),
        ("registered-models/create", (400, {"error_code": "X", "message": "bad"}), "registry_refused", "400: bad"),
        ("runs/create", (503, b"<html>"), "registry_unreachable", "503"),
        ("runs/search", (429, {"message": "slowly"}), "registry_unreachable", "slowly"),
        ("model-versions/search", (200, b"<html>"), "registry_refused", "none of an MLflow server"),
        ("runs/create", (302, b""), "registry_refused", "302"),
        (
            "runs/create",
            (200, {"run": {"info": {**RUN, "artifact_uri": "s3://bucket/x"}}}),
            "registry_refused",
            "at s3; legal: --serve-artifacts",
        ),
    ],
)
def test_each_answer_means_one_thing(
    server: Canned, tmp_path: Path, call: str, answer: tuple[int, Any], code: str, said: str
) -> None:
    """Only what may pass is tried again; a redirect is not followed with the token in hand."""
    server.answers[call] = answer
    failed = refusal(order(server.url, tmp_path))
    assert (failed.code, failed.retryable) == (code, code == "registry_unreachable")
    assert said in failed.detail


def test_nobody_there_is_no_refusal(tmp_path: Path) -> None:
    failed = refusal(order("http://127.0.0.1:1", tmp_path))
    assert (failed.code, failed.retryable) == ("registry_unreachable", True)


def test_what_a_library_says_is_not_repeated() -> None:
    """A storage's address is signed: whoever reads it may write there."""
    address = "https://storage.example/x?X-Amz-Signature=secret"
    response = httpx2.Response(403, json={"message": f"see {address} now"}, request=httpx2.Request("PUT", address))
    try:
        try:
            response.raise_for_status()
        except httpx2.HTTPStatusError as cause:
            raise RuntimeError(f"Error while uploading to {address}") from cause
    except RuntimeError as error:
        failed = failure(error)
    assert failed.detail == "the registry answered 403: see https://storage.example/x?... now"
    assert failure(RuntimeError(address)).detail == "the push failed with RuntimeError"


def test_content_is_of_paths_and_bytes_in_any_order(tmp_path: Path) -> None:
    one = order("http://x", tmp_path)
    assert order("http://y", tmp_path, artifact_id="art_2", files=one.files[::-1]).content() == one.content()
    assert order("http://x", tmp_path, files=one.files[1:]).content() != one.content()
    moved = one.files[0].model_copy(update={"path": "other.onnx"})
    assert order("http://x", tmp_path, files=(moved, *one.files[1:])).content() != one.content()


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_a_blob_that_is_not_what_was_published_stops_the_push(tmp_path: Path, harm: str) -> None:
    file = order("http://x", tmp_path).files[0]
    check((file,))
    if harm == "gone":
        file.blob.unlink()
    else:
        file.blob.write_bytes(b"graph?")
    with pytest.raises(PushFailed, match=r"model\.onnx") as failed:
        check((file,))
    assert (failed.value.code, failed.value.retryable) == ("artifact_damaged", False)
