"""The laws of every store, for a folder and for an S3 bucket."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.ids import new_id
from jobs.local_store import LocalStore
from jobs.problem import Refused
from jobs.s3_store import PART, S3Store
from jobs.scope import DEFAULT_PROJECT as PROJECT
from jobs.settings import Settings
from jobs.store import PARTS, Blob, Store
from jobs.stores import open_store
from tests.s3 import BUCKET

OTHER = "proj_" + 26 * "1"
LARGE = os.urandom(1 << 20) * 17 + b"end"  # three parts of an upload to S3


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    if request.param == "folder":
        return open_store(Settings(data_dir=tmp_path))
    return open_store(request.getfixturevalue("s3").settings(tmp_path / new_id("data")))


@pytest.fixture
def age(request: pytest.FixtureRequest) -> Callable[[Store, str], None]:
    """Make a blob look as if it had been put 5,000 seconds ago."""

    def turn(store: Store, sha256: str) -> None:
        if isinstance(store, LocalStore):
            os.utime(store.path(PROJECT, sha256), (time.time() - 5000,) * 2)
        else:
            request.getfixturevalue("s3").age(sha256, 5000)

    return turn


def left(store: Store) -> list[Path]:
    """Half-written files on this machine."""
    return list((store.root / PARTS).glob("*"))


def read(store: Store, project: str, sha256: str) -> bytes:
    with store.open(project, sha256) as file:
        return file.read()


def cut(after: int) -> Iterator[bytes]:
    """A stream whose sender goes away."""
    yield b"x" * after
    raise ConnectionResetError


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=st.lists(st.binary(max_size=50), max_size=5), at=st.integers(0, 250), count=st.integers(0, 250))
def test_what_goes_in_comes_out_from_any_place_on(store: Store, chunks: list[bytes], at: int, count: int) -> None:
    whole = b"".join(chunks)
    blob = store.put_stream(PROJECT, chunks, max_bytes=1000)
    assert blob == Blob(hashlib.sha256(whole).hexdigest(), len(whole))
    assert store.size(PROJECT, blob.sha256) == len(whole)
    with store.open(PROJECT, blob.sha256) as file:
        file.seek(at)
        assert file.read(count) == whole[at : at + count]
        assert file.read() == whole[at + count :]
        file.seek(0)
        assert file.read() == whole


def test_a_blob_of_many_parts_is_the_same_from_stream_and_from_file(store: Store, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(LARGE).hexdigest()
    (tmp_path / "large").write_bytes(LARGE)
    assert store.put_file(PROJECT, tmp_path / "large") == Blob(sha256, len(LARGE))
    assert read(store, PROJECT, sha256) == LARGE
    assert store.put_stream(OTHER, [LARGE[:5], LARGE[5:]], max_bytes=1 << 30) == Blob(sha256, len(LARGE))
    with store.open(OTHER, sha256) as file:
        file.seek(PART - 2)
        assert file.read(4) == LARGE[PART - 2 : PART + 2]
        file.seek(-3, io.SEEK_END)
        assert file.read() == b"end"
    assert left(store) == []


def test_a_stream_that_is_cut_leaves_nothing(store: Store) -> None:
    with pytest.raises(ConnectionResetError):
        store.put_stream(PROJECT, cut(5_000_000), max_bytes=10_000_000)
    assert (list(store.blobs()), left(store)) == ([], [])


def test_nothing_is_visible_before_the_last_byte(store: Store) -> None:
    with store.writer(PROJECT, max_bytes=100) as writer:
        writer.write(b"half")
        assert list(store.blobs()) == []
        writer.write(b"whole")
        blob = writer.commit()
    assert list(store.blobs()) == [(PROJECT, blob.sha256)]


def test_the_cap_holds_to_the_byte(store: Store) -> None:
    assert store.put_stream(PROJECT, [b"12345", b"67890"], max_bytes=10).size == 10
    with pytest.raises(Refused) as caught:
        store.put_stream(PROJECT, [b"12345", b"67890", b"x"], max_bytes=10)
    assert (caught.value.problem.status, caught.value.problem.code) == (413, "payload_too_large")
    assert (len(list(store.blobs())), left(store)) == (1, [])


def test_another_sha256_than_announced_is_refused(store: Store, tmp_path: Path) -> None:
    right = hashlib.sha256(b"text").hexdigest()
    (tmp_path / "file").write_bytes(b"test")
    for put in (
        lambda: store.put_stream(PROJECT, [b"test"], max_bytes=10, expected_sha256=right),
        lambda: store.put_file(PROJECT, tmp_path / "file", expected_sha256=right),
    ):
        with pytest.raises(Refused) as caught:
            put()
        assert caught.value.problem.code == "sha256_mismatch"
    assert (list(store.blobs()), left(store)) == ([], [])
    assert store.put_stream(PROJECT, [b"text"], max_bytes=10, expected_sha256=right.upper()).sha256 == right


def test_the_same_bytes_many_times_at_once_are_one_blob(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        blobs = set(pool.map(lambda _: store.put_stream(PROJECT, [b"same"] * 100, max_bytes=1000), range(24)))
    assert len(blobs) == len(list(store.blobs())) == 1
    assert left(store) == []


def test_projects_share_no_bytes(store: Store) -> None:
    """Deleting in one leaves the other's copy."""
    blob = store.put_stream(PROJECT, [b"same"], max_bytes=10)
    store.put_stream(OTHER, [b"same"], max_bytes=10)
    assert store.delete(PROJECT, blob.sha256)
    assert not store.delete(PROJECT, blob.sha256)
    assert list(store.blobs()) == [(OTHER, blob.sha256)]


def test_no_name_leaves_the_root(store: Store) -> None:
    def signed(project: str, sha256: str) -> str | None:
        return store.presigned(project, sha256, 9)

    for project, sha in [
        ("..", "a" * 64),
        (PROJECT, "../" * 21 + "a"),
        (PROJECT, "A" * 64),
        (PROJECT + "\n", "a" * 64),
    ]:
        for ask in (
            store.open,
            store.size,
            store.delete,
            store.local_path if isinstance(store, LocalStore) else signed,
        ):
            with pytest.raises(ValueError, match="named by"):
                ask(project, sha)


def test_a_file_is_copied_and_a_link_is_refused(store: Store, tmp_path: Path) -> None:
    """A link in a job's folder could show any file of the worker."""
    real = tmp_path / "model.onnx"
    real.write_bytes(b"weights")
    blob = store.put_file(PROJECT, real)
    assert real.read_bytes() == read(store, PROJECT, blob.sha256) == b"weights"
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(OSError, match="link"):
        store.put_file(PROJECT, tmp_path / "link")


@pytest.mark.parametrize("link", [True, False])
def test_a_blob_is_fetched_into_a_file_that_cannot_be_written(store: Store, tmp_path: Path, *, link: bool) -> None:
    blob = store.put_stream(PROJECT, [b"rows"], max_bytes=10)
    target = tmp_path / "target"
    store.fetch(PROJECT, blob.sha256, target, link=link)
    assert target.read_bytes() == b"rows"
    assert target.stat().st_mode & 0o222 == 0
    local = store.local_path(PROJECT, blob.sha256)
    assert local is None or local.read_bytes() == b"rows"


def test_what_is_not_there_is_not_found(store: Store, tmp_path: Path) -> None:
    absent = "0" * 64
    for ask in (store.open, store.size, lambda p, s: store.fetch(p, s, tmp_path / "target")):
        with pytest.raises(FileNotFoundError):
            ask(PROJECT, absent)
    assert not (tmp_path / "target").exists()
    assert not store.delete(PROJECT, absent)
    assert not store.delete_stale(PROJECT, absent, 0)


def test_only_what_nobody_has_put_lately_is_stale(store: Store, age: Callable[[Store, str], None]) -> None:
    """Putting the same bytes again makes a blob young."""
    blob = store.put_stream(PROJECT, [b"x"], max_bytes=10)
    age(store, blob.sha256)
    store.put_stream(PROJECT, [b"x"], max_bytes=10)
    assert not store.delete_stale(PROJECT, blob.sha256, grace_s=3600)
    age(store, blob.sha256)
    assert store.delete_stale(PROJECT, blob.sha256, grace_s=3600)
    assert not store.delete_stale(PROJECT, blob.sha256, grace_s=3600)
    assert list(store.blobs()) == []


def test_a_store_that_can_be_written_says_so(store: Store) -> None:
    store.check()


def test_large_blobs_are_not_held_in_memory(store: Store, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """128 MB in and out of a process of its own: its peak grows by the parts that are under way."""
    settings = {"LADAPRESS_DATA_DIR": str(store.root.parent)}
    if isinstance(store, S3Store):
        settings |= {
            "LADAPRESS_STORE_URL": f"s3://{BUCKET}/{store.root.parent.name}",
            "LADAPRESS_STORE_ENDPOINT": request.getfixturevalue("s3").url,
            "LADAPRESS_STORE_REGION": "us-east-1",
            "LADAPRESS_STORE_ACCESS_KEY_ID": "test-key",
            "LADAPRESS_STORE_SECRET_ACCESS_KEY": "test-secret",
        }
    with (tmp_path / "large").open("wb") as file:
        for number in range(128):
            file.write(number.to_bytes(8, "little") * (1 << 17))
    script = (
        "import resource, sys; from pathlib import Path; from jobs.settings import Settings\n"
        "from jobs.stores import open_store; store = open_store(Settings()); folder = Path(sys.argv[1])\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "store.put_stream(sys.argv[2], [b'warm'], max_bytes=9); before = peak()\n"
        "blob = store.put_file(sys.argv[2], folder / 'large')\n"
        "store.fetch(sys.argv[2], blob.sha256, folder / 'back'); print(peak() - before)"
    )
    command = [sys.executable, "-c", script, str(tmp_path), PROJECT]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 80 << 10, "KiB"
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()
