"""The store in S3: what only a bucket can do, and what only a bucket does to one. The laws of every store are in
test_stores.py.
"""

from __future__ import annotations

import hashlib
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import obstore
import pytest
from pydantic import ValidationError

from jobs import s3_store
from jobs.ids import new_id
from jobs.problem import Refused
from jobs.s3_store import SWEEPS, ChangedError, S3Store
from jobs.scope import DEFAULT_PROJECT as PROJECT
from jobs.settings import Settings
from jobs.stores import open_store
from tests.jobs.test_stores import LARGE, left
from tests.s3 import S3


@pytest.fixture
def bucket(s3: S3, tmp_path: Path) -> S3Store:
    """An empty store in S3."""
    found = open_store(s3.settings(tmp_path / new_id("data")))
    assert isinstance(found, S3Store)
    return found


def test_a_signed_address_gives_the_bytes_for_a_while(bucket: S3Store) -> None:
    """Ranges too; and only these bytes."""
    blob = bucket.put_stream(PROJECT, [b"0123456789"], max_bytes=10)
    address = bucket.presigned(PROJECT, blob.sha256, 300)
    assert "X-Amz-Expires=300" in address
    assert "X-Amz-Signature=" in address
    assert "test-secret" not in address
    asked = urllib.request.Request(address, headers={"Range": "bytes=2-4"})
    with urllib.request.urlopen(asked) as answer:
        assert (answer.status, answer.read()) == (206, b"234")


def test_an_address_is_signed_for_the_name_that_clients_know(s3: S3, tmp_path: Path) -> None:
    store = open_store(s3.settings(tmp_path / "a", store_public_endpoint="https://s3.example.com"))
    assert str(store.presigned(PROJECT, "0" * 64, 60)).startswith("https://s3.example.com/ladapress-test/a/proj_")


def test_a_file_that_changes_while_it_is_sent_is_never_visible(
    bucket: S3Store, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload is aborted before its last part: the name would be a lie."""
    path, first = tmp_path / "large", hashlib.file_digest

    def then_changed(file: Any, name: str) -> Any:
        found = first(file, name)
        with path.open("r+b") as other:
            other.write(b"changed")
        return found

    monkeypatch.setattr(hashlib, "file_digest", then_changed)
    for content in (b"small", LARGE):
        path.write_bytes(content)
        with pytest.raises(ChangedError):
            bucket.put_file(PROJECT, path)
    assert (list(bucket.blobs()), s3.uploads()) == ([], 0)


@pytest.mark.parametrize("content", [b"small", LARGE])
def test_what_a_store_gives_no_checksum_of_is_read_back(
    bucket: S3Store, s3: S3, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """An ETag that is none of the bytes (encryption, other stores) is not believed, in either sense."""
    opened: list[str] = []
    remote = s3_store._Remote

    def counted(*arguments: Any) -> Any:
        opened.append(arguments[1])
        return remote(*arguments)

    monkeypatch.setattr(s3_store, "_Remote", counted)
    bucket.put_stream(PROJECT, [content], max_bytes=1 << 30)
    assert opened == []
    monkeypatch.setattr(s3_store._Sent, "etag", lambda _: "something else")
    bucket.put_stream(PROJECT, [content], max_bytes=1 << 30)
    assert len(opened) == 1

    def damaged(*arguments: Any) -> Any:
        (found,) = s3.below(bucket.root.parent.name).values()
        found.value = b"#" * len(content)
        return remote(*arguments)

    monkeypatch.setattr(s3_store, "_Remote", damaged)
    with pytest.raises(Refused) as caught:
        bucket.put_stream(PROJECT, [content], max_bytes=1 << 30)
    assert caught.value.problem.code == "artifact_damaged"
    assert list(bucket.blobs()) == []


def test_a_blob_that_changed_in_the_bucket_is_not_laid_out(bucket: S3Store, s3: S3, tmp_path: Path) -> None:
    blob = bucket.put_stream(PROJECT, [b"rows"], max_bytes=10)
    (found,) = s3.below(bucket.root.parent.name).values()
    found.value = b"rowz"
    with pytest.raises(Refused) as caught:
        bucket.fetch(PROJECT, blob.sha256, tmp_path / "target")
    assert caught.value.problem.code == "artifact_damaged"
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("moment", ["before the look", "between look and removal"])
def test_a_put_that_races_with_a_sweep_keeps_its_blob(
    bucket: S3Store, s3: S3, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """S3 cannot look and remove at once: put and sweep meet at a marker."""
    blob = bucket.put_stream(PROJECT, [b"x"], max_bytes=10)
    s3.age(blob.sha256, 5000)
    head, delete, puts = obstore.head, obstore.delete, []

    def put() -> None:
        putting = threading.Thread(target=bucket.put_stream, args=(PROJECT, [b"x"]), kwargs={"max_bytes": 10})
        puts.append(putting)
        putting.start()
        while blob.sha256 not in young():  # it has written, and now finds the marker
            time.sleep(0.01)

    def young() -> str:
        times = s3.below(bucket.root.parent.name)
        return "".join(key for key, one in times.items() if SWEEPS not in key and fresh(one))

    def fresh(one: Any) -> bool:
        return time.time() - one.last_modified.timestamp() < 3600

    def looked(store: Any, key: str) -> Any:
        if moment == "before the look" and not puts and key.startswith(PROJECT):
            put()
        return head(store, key)

    def removed(store: Any, key: str) -> Any:
        if moment != "before the look" and not puts and key.startswith(PROJECT):
            put()
        return delete(store, key)

    monkeypatch.setattr(obstore, "head", looked)
    monkeypatch.setattr(obstore, "delete", removed)
    assert bucket.delete_stale(PROJECT, blob.sha256, grace_s=3600) == (moment != "before the look")
    puts[0].join(20)
    assert list(bucket.blobs()) == [(PROJECT, blob.sha256)]
    assert not any(SWEEPS in key for key in s3.below(bucket.root.parent.name))


def test_a_marker_of_a_dead_sweeper_is_taken_away(bucket: S3Store, s3: S3) -> None:
    """The sweep after it begins afresh."""
    blob = bucket.put_stream(PROJECT, [b"x"], max_bytes=10)
    s3.age(blob.sha256, 5000)
    obstore.put(bucket._bucket, f"{SWEEPS}/{PROJECT}/{blob.sha256}", b"")
    assert not bucket.delete_stale(PROJECT, blob.sha256, grace_s=3600)
    s3.age(blob.sha256, 5000)  # the marker's key ends so, too
    assert not bucket.delete_stale(PROJECT, blob.sha256, grace_s=3600)
    assert bucket.delete_stale(PROJECT, blob.sha256, grace_s=3600)


def test_a_store_that_is_away_is_said(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 for later, with nothing of the address or the key in it."""
    monkeypatch.setattr("jobs.stores.RETRIES", 0)
    nowhere = open_store(s3.settings(tmp_path / "a", store_endpoint="http://127.0.0.1:1"))
    no_bucket = open_store(s3.settings(tmp_path / "a").model_copy(update={"store_url": "s3://absent"}))
    for store in (nowhere, no_bucket):
        with pytest.raises(Refused) as caught:
            store.put_stream(PROJECT, [b"x"], max_bytes=10)
        problem = caught.value.problem
        assert (problem.code, problem.retryable, problem.detail) == ("unavailable", True, "the store does not answer")
        with pytest.raises(Refused):
            store.check()
        assert left(store) == []


@pytest.mark.parametrize(
    "url",
    ["", "s3://", "s3://x", "s3://Bucket/a", "file://host/a", "file:a", "/srv/a", "http://host/a", "s3://bucket/a?b=c"],
)
def test_a_store_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="legal: file:///FOLDER or s3://BUCKET"):
        Settings(store_url=url)


def test_secrets_are_not_printed(s3: S3, tmp_path: Path) -> None:
    settings = s3.settings(tmp_path)
    assert "test-secret" not in repr(settings) + str(settings) + settings.model_dump_json() + repr(open_store(settings))
    assert "test-key" not in repr(settings)


def test_a_folder_may_be_named_by_a_url(tmp_path: Path) -> None:
    store = open_store(Settings(data_dir=tmp_path, store_url=(tmp_path / "a b").as_uri()))
    assert store.root == tmp_path / "a b"
