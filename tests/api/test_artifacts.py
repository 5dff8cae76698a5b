"""Downloads: whole, in ranges, not at all where nothing changed."""

from __future__ import annotations

import base64
import hashlib
import io
import zipfile

import httpx2
import pytest
import zstandard
from fastapi.testclient import TestClient

from api.routes.artifacts import BlobResponse
from tests.api.live import Live
from tests.api.problems import problem
from tests.api.results import MODEL_BYTES, finished
from tests.jobs.world import World

SIZE = len(MODEL_BYTES)
SHA256 = hashlib.sha256(MODEL_BYTES).hexdigest()
DIGEST = f"sha-256=:{base64.b64encode(hashlib.sha256(MODEL_BYTES).digest()).decode()}:"


@pytest.fixture
def url(world: World) -> str:
    """The model of a finished job."""
    return f"/v1/artifacts/{finished(world)[1]}/files/model.onnx"


def test_an_artifact_lists_its_files_with_size_and_hash(client: TestClient, url: str) -> None:
    artifact = client.get(url.partition("/files")[0]).json()
    assert [file["path"] for file in artifact["files"]] == ["model.onnx", "pytorch/config.json"]
    assert (artifact["files"][0]["size"], artifact["files"][0]["sha256"]) == (SIZE, SHA256)
    assert (artifact["point"], artifact["report"]["artifact_id"]) == (0, artifact["id"])
    for file in artifact["files"]:
        content = client.get(f"/v1/artifacts/{artifact['id']}/files/{file['path']}").content
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size"], file["sha256"])


def test_a_file_comes_whole_with_its_digests_over_a_socket(live: Live) -> None:
    """Strong ETag, Content-Digest, ranges offered, an attachment that no browser sniffs; HEAD says the same."""
    with live.client() as client:
        url = f"/v1/artifacts/{finished(live.world)[1]}/files/model.onnx"
        answer = client.get(url)
        assert (answer.status_code, answer.content) == (200, MODEL_BYTES)
        head = client.head(url)
        assert (head.status_code, head.content) == (200, b"")
        for one in (answer, head):
            assert one.headers["etag"] == f'"{SHA256}"'
            assert one.headers["content-digest"] == one.headers["repr-digest"] == DIGEST
            assert one.headers["accept-ranges"] == "bytes"
            assert one.headers["content-length"] == str(SIZE)
            assert one.headers["content-disposition"] == 'attachment; filename="model.onnx"'
            assert one.headers["x-content-type-options"] == "nosniff"


def test_an_artifact_comes_as_one_archive(live: Live) -> None:
    """Every file below one folder, byte for byte, of the length that was announced; not once the files are gone."""
    with live.client() as client:
        artifact = client.get(f"/v1/artifacts/{finished(live.world)[1]}").json()
        answer = client.get(f"/v1/artifacts/{artifact['id']}/archive")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert answer.headers["content-disposition"] == f'attachment; filename="{artifact["id"]}.zip"'
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert archive.testzip() is None
            found = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
        assert found == {f"{artifact['id']}/{file['path']}": file["sha256"] for file in artifact["files"]}
        client.delete(f"/v1/artifacts/{artifact['id']}").raise_for_status()
        problem(client.get(f"/v1/artifacts/{artifact['id']}/archive"), 410, "expired")
        problem(client.get("/v1/artifacts/art_0/archive"), 404, "not_found")


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE),
        ("bytes=-7", SIZE - 7, SIZE),
        (f"bytes=-{SIZE * 9}", 0, SIZE),
        ("bytes=65535-65536", 65_535, 65_537),
        (f"bytes=100-{10**15}", 100, SIZE),
    ],
)
def test_a_range_is_206_with_exactly_those_bytes(
    client: TestClient, url: str, asked: str, start: int, stop: int
) -> None:
    """Content-Digest would be of the part, so only Repr-Digest names the whole."""
    answer = client.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, MODEL_BYTES[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert "content-digest" not in answer.headers
    assert answer.headers["repr-digest"] == DIGEST


def test_a_cut_download_resumes_to_the_same_bytes(live: Live) -> None:
    """First part, then the rest under If-Range; with a stale ETag the whole comes again."""
    with live.client() as client:
        url = f"/v1/artifacts/{finished(live.world)[1]}/files/model.onnx"
        first = client.get(url, headers={"Range": "bytes=0-99999"})
        rest = client.get(url, headers={"Range": "bytes=100000-", "If-Range": first.headers["etag"]})
        assert (rest.status_code, first.content + rest.content) == (206, MODEL_BYTES)
        stale = client.get(url, headers={"Range": "bytes=100000-", "If-Range": '"old"'})
        assert (stale.status_code, stale.content) == (200, MODEL_BYTES)


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={10**18}-", "bytes=0-1,999999999-", "bytes=-0"])
def test_a_range_outside_is_416_and_says_the_size(client: TestClient, url: str, asked: str) -> None:
    answer = client.get(url, headers={"Range": asked})
    problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


@pytest.mark.parametrize(
    "asked",
    ["", "bytes", "bytes=", "bytes=a-b", "bytes=5-1", "lines=0-1", "bytes=" + "0-1," * 200, "bytes=1-" + "9" * 5_000],
)
def test_a_malformed_range_is_ignored(client: TestClient, url: str, asked: str) -> None:
    """RFC 9110: the file comes as if none had been asked for."""
    answer = client.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, MODEL_BYTES)


def test_several_ranges_come_as_parts(client: TestClient, url: str) -> None:
    answer = client.get(url, headers={"Range": "bytes=0-1,10-11"})
    assert answer.status_code == 206
    assert answer.headers["content-type"].startswith("multipart/byteranges")
    assert MODEL_BYTES[10:12] in answer.content


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (f'"{SHA256}"', 304),
        (f'W/"{SHA256}"', 304),
        (f'"a", "{SHA256}"', 304),
        ("*", 304),
        ('"a"', 200),
        (SHA256, 200),
        ("", 200),
    ],
)
def test_a_file_that_one_has_is_not_sent_again(client: TestClient, url: str, sent: str, status: int) -> None:
    """If-None-Match is looked at before Range."""
    for method in ("GET", "HEAD"):
        answer = client.request(method, url, headers={"If-None-Match": sent})
        assert answer.status_code == status
        assert answer.headers["etag"] == f'"{SHA256}"'
    if status == 304:
        assert client.get(url, headers={"If-None-Match": sent, "Range": "bytes=0-1"}).status_code == 304


@pytest.mark.parametrize("asked", ["zstd", "gzip, ZSTD;q=0.5", "identity, zstd; q=1.0"])
def test_who_asks_for_zstd_gets_the_file_entropy_coded(client: TestClient, url: str, asked: str) -> None:
    """One frame of the same bytes, under a tag of its own; ranges are of the file as it is."""
    answer = client.get(url, headers={"Accept-Encoding": asked})
    assert (answer.status_code, answer.headers["content-encoding"], answer.headers["vary"]) == (
        200,
        "zstd",
        "Accept-Encoding",
    )
    assert answer.headers["etag"] == f'"{SHA256}-zstd"'
    assert zstandard.ZstdDecompressor().decompressobj().decompress(answer.content) == MODEL_BYTES
    assert "content-digest" not in answer.headers
    head = client.head(url, headers={"Accept-Encoding": asked})
    assert (head.headers["etag"], head.headers["content-encoding"]) == (answer.headers["etag"], "zstd")
    part = client.get(url, headers={"Accept-Encoding": asked, "Range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, MODEL_BYTES[2:6])
    for tag in (f'"{SHA256}-zstd"', f'"{SHA256}"'):
        assert client.get(url, headers={"Accept-Encoding": asked, "If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("asked", ["", "*", "gzip", "zstd;q=0", "zstd; q=0.000", "zstdx"])
def test_who_does_not_ask_gets_the_file_as_it_is(client: TestClient, url: str, asked: str) -> None:
    answer = client.get(url, headers={"Accept-Encoding": asked})
    assert "content-encoding" not in answer.headers
    assert (answer.content, answer.headers["etag"]) == (MODEL_BYTES, f'"{SHA256}"')


@pytest.mark.parametrize("path", ["nope", "model.onnx/", "/model.onnx", "..%2Fmodel.onnx", "%00", "pytorch", "a" * 255])
def test_a_file_that_the_artifact_does_not_list_is_404(client: TestClient, url: str, path: str) -> None:
    """The name is looked up in the table; it never becomes a path."""
    answer: httpx2.Response = client.get(url.removesuffix("model.onnx") + path)
    problem(answer, 404, "not_found")


def test_the_hook_into_starlette_is_still_called() -> None:
    """BlobResponse overrides a private method; were it renamed, bad ranges would be text/plain again."""
    from starlette.responses import FileResponse

    assert callable(getattr(FileResponse, "_parse_range_header", None))
    assert BlobResponse._parse_range_header("x", 10) == []
