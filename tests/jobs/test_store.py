"""The store: a blob is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.local_store import LocalStore
from jobs.problem import Refused
from jobs.scope import DEFAULT_PROJECT as PROJECT
from jobs.store import PARTS, Blob

OTHER = "proj_" + 26 * "1"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def files(store: LocalStore) -> list[Path]:
    """Everything below the root, half-written files too."""
    return [path for path in store.root.rglob("*") if path.is_file()]


def cut(after: int) -> Iterator[bytes]:
    """A stream whose sender goes away."""
    yield b"x" * after
    raise ConnectionResetError


@given(chunks=st.lists(st.binary(max_size=50), max_size=5))
def test_what_goes_in_comes_out_under_its_sha256(chunks: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    whole = b"".join(chunks)
    blob = store.put_stream(PROJECT, chunks, max_bytes=1000)
    assert blob == Blob(hashlib.sha256(whole).hexdigest(), len(whole))
    assert store.path(PROJECT, blob.sha256).read_bytes() == whole
    assert store.path(PROJECT, blob.sha256).relative_to(store.root).as_posix() == (
        f"{PROJECT}/{blob.sha256[:2]}/{blob.sha256}"
    )


def test_a_stream_that_is_cut_leaves_nothing(store: LocalStore) -> None:
    with pytest.raises(ConnectionResetError):
        store.put_stream(PROJECT, cut(5_000_000), max_bytes=10_000_000)
    assert files(store) == []


def test_nothing_is_visible_before_the_last_byte(store: LocalStore) -> None:
    with store.writer(PROJECT, max_bytes=100) as writer:
        writer.write(b"half")
        assert list(store.blobs()) == []
        writer.write(b"whole")
        blob = writer.commit()
    assert list(store.blobs()) == [(PROJECT, blob.sha256)]


def test_a_process_that_is_killed_leaves_a_part_that_the_sweep_takes(store: LocalStore) -> None:
    """kill -9 between two chunks: no blob, and the rest goes when it is old."""
    script = (
        "import os, sys; from pathlib import Path; from jobs.local_store import LocalStore\n"
        "with LocalStore(Path(sys.argv[1])).writer(sys.argv[2], max_bytes=100) as w:\n"
        "    w.write(b'half'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(store.root), PROJECT], check=False)
    assert done.returncode == -9
    assert list(store.blobs()) == []
    assert [path.parent.name for path in files(store)] == [PARTS]
    assert store.drop_parts(grace_s=3600) == 0
    assert store.drop_parts(grace_s=0) == 1
    assert files(store) == []


def test_the_cap_holds_to_the_byte(store: LocalStore) -> None:
    assert store.put_stream(PROJECT, [b"12345", b"67890"], max_bytes=10).size == 10
    with pytest.raises(Refused) as caught:
        store.put_stream(PROJECT, [b"12345", b"67890", b"x"], max_bytes=10)
    assert (caught.value.problem.status, caught.value.problem.code) == (413, "payload_too_large")
    assert len(files(store)) == 1


def test_another_sha256_than_announced_is_refused(store: LocalStore) -> None:
    right = hashlib.sha256(b"text").hexdigest()
    with pytest.raises(Refused) as caught:
        store.put_stream(PROJECT, [b"test"], max_bytes=10, expected_sha256=right)
    assert caught.value.problem.code == "sha256_mismatch"
    assert files(store) == []
    assert store.put_stream(PROJECT, [b"text"], max_bytes=10, expected_sha256=right.upper()).sha256 == right


def test_the_same_bytes_many_times_at_once_are_one_blob(store: LocalStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        blobs = set(pool.map(lambda _: store.put_stream(PROJECT, [b"same"] * 100, max_bytes=1000), range(24)))
    assert len(blobs) == 1
    assert len(files(store)) == 1


def test_projects_share_no_bytes(store: LocalStore) -> None:
    """Deleting in one leaves the other's copy."""
    blob = store.put_stream(PROJECT, [b"same"], max_bytes=10)
    store.put_stream(OTHER, [b"same"], max_bytes=10)
    assert store.delete(PROJECT, blob.sha256)
    assert not store.delete(PROJECT, blob.sha256)
    assert list(store.blobs()) == [(OTHER, blob.sha256)]


def test_no_name_leaves_the_root(store: LocalStore) -> None:
    for project, sha in [
        ("..", "a" * 64),
        (PROJECT, "../" * 21 + "a"),
        (PROJECT, "A" * 64),
        (PROJECT + "\n", "a" * 64),
    ]:
        with pytest.raises(ValueError, match="named by"):
            store.path(project, sha)


def test_a_file_is_copied_and_a_link_is_refused(store: LocalStore, tmp_path: Path) -> None:
    """A link in a job's folder could show any file of the worker."""
    real = tmp_path / "model.onnx"
    real.write_bytes(b"weights")
    blob = store.put_file(PROJECT, real)
    assert real.read_bytes() == store.path(PROJECT, blob.sha256).read_bytes() == b"weights"
    (tmp_path / "link").symlink_to(real)
    with pytest.raises(OSError, match="link"):
        store.put_file(PROJECT, tmp_path / "link")


def test_a_full_disk_is_said_and_leaves_nothing(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Refused) as caught:
        store.put_stream(PROJECT, [b"x"], max_bytes=10)
    assert (caught.value.problem.status, caught.value.problem.retryable) == (507, True)
    assert files(store) == []


def test_a_blob_is_synced_before_its_name_appears(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut must not leave a name with missing bytes: file, rename, folder, in this order."""
    calls: list[str] = []
    sync, rename = os.fsync, Path.rename

    def synced(descriptor: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112 - a magic link
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        calls.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    store.put_stream(PROJECT, [b"x"], max_bytes=10)
    assert calls[:2] == ["file", "rename"]
    assert calls[2:]
    assert set(calls[2:]) == {"folder"}


def test_only_what_nobody_has_put_lately_is_stale(store: LocalStore) -> None:
    """Putting the same bytes again makes a blob young."""
    blob = store.put_stream(PROJECT, [b"x"], max_bytes=10)
    path = store.path(PROJECT, blob.sha256)
    os.utime(path, (time.time() - 5000,) * 2)
    store.put_stream(PROJECT, [b"x"], max_bytes=10)
    assert not store.delete_stale(PROJECT, blob.sha256, grace_s=3600)
    os.utime(path, (time.time() - 5000,) * 2)
    assert store.delete_stale(PROJECT, blob.sha256, grace_s=3600)
    assert not store.delete_stale(PROJECT, blob.sha256, grace_s=3600)
    assert files(store) == []


def test_a_put_that_races_with_the_sweep_keeps_its_blob(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The put comes between the sweep's look and its removal."""
    blob = store.put_stream(PROJECT, [b"x"], max_bytes=10)
    path = store.path(PROJECT, blob.sha256)
    os.utime(path, (time.time() - 5000,) * 2)
    rename = Path.rename
    fired: list[bool] = []

    def put_first(self: Path, target: Path) -> Path:
        if self == path and not fired:
            fired.append(True)
            store.put_stream(PROJECT, [b"x"], max_bytes=10)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", put_first)
    assert not store.delete_stale(PROJECT, blob.sha256, grace_s=3600)
    assert fired
    assert path.read_bytes() == b"x"
