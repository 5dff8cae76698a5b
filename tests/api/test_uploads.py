"""Models and datasets on their way in: what is legal arrives whole, what is not leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from jobs.settings import Settings
from tests.api.conftest import local
from tests.api.live import Live
from tests.api.problems import problem

SAFETENSORS = (640).to_bytes(8, "little") + b"{" + b" " * 700


def declare(client: TestClient, *files: str | dict[str, Any]) -> str:
    declared = [{"path": file} if isinstance(file, str) else file for file in files]
    answer = client.post("/v1/models", json={"files": declared})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def put(client: TestClient, model: str, path: str, content: Any, **headers: str) -> Any:
    return client.put(f"/v1/models/{model}/files/{path}", content=content, headers=headers)


def left_behind(settings: Settings) -> list[Path]:
    """Every file in the store, whole or not."""
    return [path for path in settings.store_dir.rglob("*") if path.is_file()]


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps([1]))
    return buffer.getvalue()


CODE = {
    "pickle 2": pickle.dumps({"a": 1}, protocol=2),
    "pickle 4": pickle.dumps({"a": 1}, protocol=4),
    "pickle 5": pickle.dumps({"a": 1}, protocol=5),
    "zip": zipped(),
    "ELF": b"\x7fELF\x02\x01\x01" + bytes(64),
}


def test_a_model_is_ready_when_its_last_file_has_come(client: TestClient, settings: Settings) -> None:
    """Its bytes lie in the store under their sha256; then it changes no more."""
    answer = client.post(
        "/v1/models", json={"name": "m", "files": [{"path": "config.json"}, {"path": "model.safetensors"}]}
    )
    made = answer.json()
    assert (answer.status_code, made["status"], made["name"]) == (201, "open", "m")
    assert made["missing"] == ["config.json", "model.safetensors"]
    assert client.get(answer.headers["location"]).json() == made
    first = put(client, made["id"], "config.json", b"{}").json()
    assert (first["status"], first["missing"], first["size_bytes"]) == ("open", ["model.safetensors"], 2)
    last = put(client, made["id"], "model.safetensors", SAFETENSORS).json()
    assert (last["status"], last["missing"], last["size_bytes"]) == ("ready", [], 2 + len(SAFETENSORS))
    stored = {path.name: path.read_bytes() for path in left_behind(settings)}
    assert stored == {hashlib.sha256(content).hexdigest(): content for content in (b"{}", SAFETENSORS)}
    assert {file["sha256"] for file in last["files"]} == set(stored)
    problem(put(client, made["id"], "config.json", b"[]"), 409, "model_complete")
    problem(put(client, made["id"], "config.json", b"[1]"), 409, "model_complete")
    assert put(client, made["id"], "config.json", b"{}").json() == last  # whose answer had been lost


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "model.pth",
        "model.ckpt",
        "data.pkl",
        "tf_model.h5",
        "flax_model.msgpack",
        "arrays.npz",
        "modeling_x.py",
        "libx.so",
        "adapter_config.json",
        "model.safetensors.bin",
        "model.safetensors\n",
        "MODEL.BIN",
        "../config.json",
        "a/config.json",
        "/etc/passwd",
        "..",
        ".",
        ".config.json",
        "config.json ",
        "config.json\u202e",
        "cönfig.json",
        "model..safetensors",
        "-",
    ],
)
def test_file_names_off_the_list_are_refused_at_declaration_and_at_put(
    settings: Settings, client: TestClient, name: str
) -> None:
    """422 with the name, and what is legal; nothing is stored."""
    files = [{"path": "config.json"}, {"path": name}]
    found = problem(client.post("/v1/models", json={"files": files}), 422, "model_unsafe")
    assert found["param"] == "/files/1/path"
    assert "*.safetensors" in found["detail"]
    assert client.get("/v1/models").json()["data"] == []
    answer = put(client, declare(client, "config.json"), quote(name, safe=""), b"{}")
    if name not in (".", "..", "model.safetensors\n"):  # the path has lost these when it reaches the route
        assert "*.safetensors" in problem(answer, 422, "model_unsafe")["detail"]
    assert not left_behind(settings)


@pytest.mark.parametrize("kind", CODE)
@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "vocab.txt", "spiece.model"])
def test_code_is_refused_by_its_first_bytes_under_any_name(
    settings: Settings, client: TestClient, kind: str, name: str
) -> None:
    """422 that names the file; not a byte of it is kept."""
    model = declare(client, name)
    found = problem(put(client, model, name, CODE[kind]), 422, "model_unsafe")
    assert name in found["detail"]
    assert not left_behind(settings)
    assert client.get(f"/v1/models/{model}").json()["missing"] == [name]


def test_a_safetensors_header_whose_length_reads_like_a_pickle_is_welcome(client: TestClient) -> None:
    """640 is 0x0280: the first bytes are those of a pickle of protocol 2, and yet it is none."""
    assert SAFETENSORS[:2] == pickle.dumps(1, protocol=2)[:2]
    assert put(client, declare(client, "model.safetensors"), "model.safetensors", SAFETENSORS).status_code == 200


def test_announced_sizes_and_hashes_are_held(settings: Settings, client: TestClient) -> None:
    """A file that is not what was declared is refused, and the right one still fits after it."""
    right = b"{}"
    sha256 = hashlib.sha256(right).hexdigest()
    model = declare(client, {"path": "config.json", "size": 2, "sha256": sha256.upper()})
    problem(put(client, model, "config.json", b"{ }"), 422, "size_mismatch")
    problem(put(client, model, "config.json", iter([b"{", b" ", b"}"])), 413, "payload_too_large")
    problem(put(client, model, "config.json", b"[]"), 422, "sha256_mismatch")
    assert not left_behind(settings)
    assert put(client, model, "config.json", right).json()["status"] == "ready"
    problem(put(client, model, "vocab.txt", b""), 404, "not_found")


def test_declarations_are_checked(client: TestClient) -> None:
    """No files, twice the same, sizes and hashes that are none, too much in all."""
    for files, param in (
        ([], "/files"),
        ([{"path": "config.json"}, {"path": "config.json"}], "/files/1/path"),
        ([{"path": "config.json", "size": -1}], "/files/0/size"),
        ([{"path": "config.json", "sha256": "x"}], "/files/0/sha256"),
        ([{"path": "config.json", "colour": 1}], "/files/0/colour"),
        ([{"path": "config.json"}] * 201, "/files"),
    ):
        assert problem(client.post("/v1/models", json={"files": files}), 422, "request_invalid")["param"] == param
    huge = [{"path": "model.safetensors", "size": 2**52}]
    problem(client.post("/v1/models", json={"files": huge}), 413, "payload_too_large")


def test_the_limits_of_a_model_and_of_a_dataset_hold(settings: Settings) -> None:
    """Announced or not; what other files of the model take counts."""
    small = settings.model_copy(update={"max_model_bytes": 1_000, "max_dataset_bytes": 1_000})
    with local(small) as client:
        model = declare(client, "config.json", "vocab.txt")
        assert put(client, model, "config.json", b"{" + b" " * 598 + b"}").status_code == 200
        problem(put(client, model, "vocab.txt", b"x" * 500), 413, "payload_too_large")
        problem(put(client, model, "vocab.txt", iter([b"x" * 250] * 2)), 413, "payload_too_large")
        assert put(client, model, "vocab.txt", b"x" * 400).json()["status"] == "ready"
        csv = {"content-type": "text/csv"}
        problem(client.post("/v1/datasets", content=b"a" * 1_001, headers=csv), 413, "payload_too_large")
        problem(client.post("/v1/datasets", content=iter([b"a" * 999, b"b" * 9]), headers=csv), 413)
    assert len(left_behind(settings)) == 2


@pytest.mark.parametrize(
    ("name", "kind", "content", "format_"),
    [
        (None, "text/csv", b"text,label\n", "csv"),
        (None, "text/csv; charset=utf-8; header=present", b"\xef\xbb\xbftext,label\n", "csv"),
        ("a.csv", "application/octet-stream", b"text,label\n", "csv"),
        ("a.CSV", None, b"text,label\n", "csv"),
        ("rows.jsonl", "application/x-ndjson", b"{}\n", "jsonl"),
        ("strange.name", "application/jsonl", b"{}\n", "jsonl"),
        ("a.parquet", None, b"PAR1....PAR1", "parquet"),
        (None, "application/vnd.apache.parquet", b"PAR1....PAR1", "parquet"),
    ],
)
def test_the_format_of_a_dataset_comes_from_its_type_or_its_name(
    client: TestClient, name: str | None, kind: str | None, content: bytes, format_: str
) -> None:
    """201 with size and sha256 of what arrived."""
    url = "/v1/datasets" + (f"?name={name}" if name else "")
    answer = client.post(url, content=content, headers={"content-type": kind} if kind else {})
    made = answer.json()
    assert answer.status_code == 201, answer.text
    assert (made["format"], made["name"], made["size_bytes"]) == (format_, name, len(content))
    assert made["sha256"] == hashlib.sha256(content).hexdigest()
    assert client.get(answer.headers["location"]).json() == made
    assert client.get("/v1/datasets").json()["data"] == [made]


@pytest.mark.parametrize(
    ("name", "kind", "content", "status", "code"),
    [
        (None, None, b"text,label\n", 415, "unsupported_media_type"),
        ("a.txt", None, b"text,label\n", 415, "unsupported_media_type"),
        ("a.feather", "application/octet-stream", b"ARROW1", 415, "unsupported_media_type"),
        (None, "application/json", b"[]", 415, "unsupported_media_type"),
        (None, "multipart/form-data; boundary=x", b"--x--", 415, "unsupported_media_type"),
        ("a.parquet", "text/csv", b"text,label\n", 422, "request_invalid"),
        ("a.csv", None, b"", 422, "data_invalid"),
        ("a.csv", None, b"PAR1", 422, "data_invalid"),
        ("a.csv", None, b"\x1f\x8b\x08", 422, "data_invalid"),
        ("a.csv", None, CODE["zip"], 422, "data_invalid"),
        ("a.csv", None, CODE["pickle 4"], 422, "data_invalid"),
        ("a.jsonl", None, "{}".encode("utf-16"), 422, "data_invalid"),
        ("a.jsonl", None, b"{\x00}", 422, "data_invalid"),
        ("a.parquet", None, b"text,label\n", 422, "data_invalid"),
    ],
)
def test_files_that_are_no_dataset_are_refused(
    settings: Settings, client: TestClient, name: str | None, kind: str | None, content: bytes, status: int, code: str
) -> None:
    """Before the inspection, by type, name and first bytes; nothing is kept."""
    url = "/v1/datasets" + (f"?name={name}" if name else "")
    problem(client.post(url, content=content, headers={"content-type": kind} if kind else {}), status, code)
    assert client.get("/v1/datasets").json()["data"] == []
    assert not left_behind(settings)


def test_a_cut_upload_leaves_nothing(live: Live) -> None:
    """The connection ends in the middle: no blob, no half-written file, and the model still waits."""
    with live.client() as client:
        model = client.post("/v1/models", json={"files": [{"path": "vocab.txt"}]}).json()["id"]
        head = f"PUT /v1/models/{model}/files/vocab.txt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n\r\n"
        live.raw(head.encode() + b"x" * 3_000_000, until_closed=False)
        deadline = time.monotonic() + 10
        while left_behind(live.world.settings) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left_behind(live.world.settings)
        assert client.get(f"/v1/models/{model}").json()["missing"] == ["vocab.txt"]


def test_a_large_upload_is_not_held_in_memory(live: Live) -> None:
    """64 MB come in pieces; the peak of the process grows by far less."""
    import resource

    piece = b"x" * (1 << 20)
    with live.client() as client:
        model = client.post("/v1/models", json={"files": [{"path": "vocab.txt"}]}).json()["id"]
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = client.put(f"/v1/models/{model}/files/vocab.txt", content=(piece for _ in range(64)))
        assert (answer.status_code, answer.json()["size_bytes"]) == (200, 64 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB


def test_a_silent_sender_is_sent_away(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """408, and what had come is gone; a JSON body must not dawdle either."""
    from api import strict_json, uploads

    monkeypatch.setattr(uploads, "SILENCE_S", 0.2)
    monkeypatch.setattr(strict_json, "SILENCE_S", 0.2)
    head = b"POST /v1/datasets?name=a.csv HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\ntext"
    assert live.raw(head).startswith(b"HTTP/1.1 408")
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{"
    assert live.raw(head).startswith(b"HTTP/1.1 408")
    assert not left_behind(live.world.settings)
