"""The API with its store in S3: downloads go to a signed address, or come through with all that a folder gives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
import zstandard
from fastapi.testclient import TestClient
from ladapress import Client

from jobs.settings import Settings
from tests.api.conftest import copy_of, local
from tests.api.live import serve
from tests.api.problems import problem
from tests.api.results import MODEL_BYTES, finished
from tests.api.test_artifacts import DIGEST, SHA256, SIZE
from tests.api.test_resumable import ROWS
from tests.api.tus import made, patch
from tests.jobs.world import World
from tests.s3 import S3


@pytest.fixture(scope="module")
def settings(s3: S3, sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    url = copy_of(sqlite_template, tmp_path_factory)
    return s3.settings(tmp_path_factory.mktemp("api-in-s3"), database_url=url, inspect_wait_s=0)


@pytest.fixture
def url(world: World) -> str:
    """The model of a finished job."""
    return f"/v1/artifacts/{finished(world)[1]}/files/model.onnx"


@pytest.fixture
def streaming(settings: Settings, client: TestClient) -> Iterator[TestClient]:
    """The same service, told not to send anybody elsewhere."""
    with local(settings.model_copy(update={"store_redirect_s": 0})) as through:
        yield through


def test_a_download_is_sent_to_an_address_that_lives_for_minutes(client: TestClient, url: str) -> None:
    """Nobody may keep the answer; the address gives the file, and ranges of it, without our key."""
    answer = client.get(url, follow_redirects=False)
    assert answer.status_code == 307
    assert answer.headers["cache-control"] == "private, no-store"
    address = answer.headers["location"]
    assert "X-Amz-Expires=300" in address
    assert httpx2.get(address).content == MODEL_BYTES
    assert httpx2.get(address, headers={"Range": "bytes=7-9"}).content == MODEL_BYTES[7:10]
    for tag in (f'"{SHA256}"', "*"):
        assert client.get(url, headers={"If-None-Match": tag}, follow_redirects=False).status_code == 304
    head = client.head(url, follow_redirects=False)
    assert (head.status_code, head.headers["etag"], head.headers["content-length"]) == (200, f'"{SHA256}"', str(SIZE))
    problem(client.get(url + "x", follow_redirects=False), 404)


@pytest.mark.parametrize(
    ("asked", "part"),
    [("bytes=0-0", MODEL_BYTES[:1]), ("bytes=100000-", MODEL_BYTES[100_000:]), ("bytes=-7", MODEL_BYTES[-7:])],
)
def test_what_comes_through_has_ranges(streaming: TestClient, url: str, asked: str, part: bytes) -> None:
    answer = streaming.get(url, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["repr-digest"] == DIGEST
    assert "content-digest" not in answer.headers
    stale = streaming.get(url, headers={"Range": asked, "If-Range": '"old"'})
    assert (stale.status_code, stale.content) == (200, MODEL_BYTES)


def test_what_comes_through_has_tags_and_digests(streaming: TestClient, url: str) -> None:
    answer = streaming.get(url)
    assert (answer.status_code, answer.content) == (200, MODEL_BYTES)
    assert (answer.headers["etag"], answer.headers["content-digest"]) == (f'"{SHA256}"', DIGEST)
    assert streaming.get(url, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    several = streaming.get(url, headers={"Range": "bytes=0-1,10-11"})
    assert several.headers["content-type"].startswith("multipart/byteranges")
    assert MODEL_BYTES[10:12] in several.content
    problem(streaming.get(url, headers={"Range": f"bytes={SIZE}-"}), 416, "range_not_satisfiable")
    coded = streaming.get(url, headers={"Accept-Encoding": "zstd"})
    assert coded.headers["content-encoding"] == "zstd"
    assert zstandard.ZstdDecompressor().decompressobj().decompress(coded.content) == MODEL_BYTES


def test_a_file_that_the_bucket_lost_is_said_before_the_answer(streaming: TestClient, url: str, s3: S3) -> None:
    for key, found in s3.objects.items():
        if key.endswith(SHA256):
            found.value = b"short"
    problem(streaming.get(url), 500, "artifact_damaged")


def test_an_upload_in_pieces_ends_in_the_bucket(client: TestClient, settings: Settings, s3: S3) -> None:
    """And nowhere else."""
    path = made(client, ROWS)
    patch(client, path, 0, ROWS[:99])
    assert patch(client, path, 99, ROWS[99:]).status_code == 204
    sha256 = hashlib.sha256(ROWS).hexdigest()
    assert client.get(f"/v1/datasets/{client.get(path).json()['dataset_id']}").json()["sha256"] == sha256
    assert any(key.endswith(sha256) for key in s3.objects)
    folders = (settings.store_dir, settings.upload_dir)
    assert [path for folder in folders for path in folder.rglob("*") if path.is_file()] == []


def test_our_client_downloads_from_the_bucket(settings: Settings, tmp_path: Path) -> None:
    """It follows, and every byte is checked as always."""
    with serve(settings) as live, Client(live.url) as client:
        client.artifacts.download(finished(live.world)[1], tmp_path / "out")
    assert (tmp_path / "out" / "model.onnx").read_bytes() == MODEL_BYTES
