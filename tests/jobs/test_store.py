"""The store in a folder: what only a file system can do. The laws of every store are in test_stores.py."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.local_store import LocalStore
from jobs.problem import Refused
from jobs.scope import DEFAULT_PROJECT as PROJECT
from jobs.store import PARTS


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def files(store: LocalStore) -> list[Path]:
    """Everything below the root, half-written files too."""
    return [path for path in store.root.rglob("*") if path.is_file()]


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
