"""A child's folder: inputs laid out read-only before it starts, outputs taken out after it has ended."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

from jobs.problem import Refused
from jobs.service import Order, PublishedFile
from jobs.store import CHUNK, Store
from worker import protocol

MEDIA_TYPES = {
    ".json": "application/json",
    ".md": "text/markdown",
    ".txt": "text/plain",
    ".py": "text/x-python",
    ".html": "text/html",
    ".jinja": "text/plain",
}


class OutputRefusedError(Exception):
    """A child names an output that it may not deliver. Says which, and why."""


def lay_out(store: Store, order: Order, folder: Path, *, link: bool) -> dict[str, Any]:
    """Put the model's files and the data below `folder/in`; returns the paths for the child's order.

    Args:
        link: hard links instead of copies. Only where the child cannot write through them: the bytes are the store's.

    Raises:
        OSError: a blob is missing, or the disk is full.
        Refused: artifact_damaged, unavailable.
    """
    inside = folder / "in"
    (inside / "model").mkdir(mode=0o700)
    for file in order.model:
        if PurePosixPath(file.path).name != file.path:
            raise OSError(f"the model file {file.path!r} is not a plain name")
        store.fetch(order.project_id, file.sha256, inside / "model" / file.path, link=link)
    paths: dict[str, Any] = {
        "model": str(inside / "model"),
        "select": None,
        "unlabelled": None,
        "out": str(folder / "out"),
    }
    for role, data in order.data.items():
        target = inside / f"{role}.{data.format}"
        store.fetch(order.project_id, data.sha256, target, link=link)
        paths[role] = str(target)
    return {**paths, "formats": {role: data.format for role, data in order.data.items()}}


def collect(store: Store, project_id: str, out: Path, point: protocol.Folder, max_bytes: int) -> list[PublishedFile]:
    """Hash the files of one point into the store. Call after the child's group has ended: nothing changes any more.

    Raises:
        OutputRefusedError: a path that leaves the folder, anything but a plain file, more than `max_bytes` in all.
        Refused: storage_full, unavailable.
    """
    root = out.resolve()
    files, total = [], 0
    for name in point.files:
        path = out / point.dir / name
        relative = PurePosixPath(name)
        if relative.is_absolute() or ".." in relative.parts or str(relative) != name:
            raise OutputRefusedError(f"{name!r} is not a plain relative path")
        if path.resolve() != root / point.dir / relative or not path.resolve().is_relative_to(root):
            raise OutputRefusedError(f"{name!r} leads out of the output folder")
        try:
            status = path.lstat()
        except OSError:
            raise OutputRefusedError(f"{name!r} was announced and is not there") from None
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise OutputRefusedError(f"{name!r} is not a plain file")
        total += status.st_size
        if total > max_bytes:
            raise OutputRefusedError(f"the output is larger than {max_bytes} bytes")
        blob = store.put_file(project_id, path)
        media_type = MEDIA_TYPES.get(path.suffix, "application/octet-stream")
        files.append(PublishedFile(path=name, size=blob.size, sha256=blob.sha256, media_type=media_type))
    return files


def collect_checkpoint(
    store: Store, project_id: str, out: Path, said: protocol.Checkpoint, max_bytes: int
) -> list[PublishedFile]:
    """Hash the files of a checkpoint into the store, while the child still runs.

    The child could swap a name for a link between a look and an opening. So every folder on the way is opened without
    following links and the next name looked up in it.

    Raises:
        OutputRefusedError: a name that is no plain file of that folder, or more than `max_bytes` in all.
        Refused: storage_full, unavailable.
    """
    files: list[PublishedFile] = []
    total = 0
    with ExitStack() as opened:

        def enter(name: str | Path, within: int | None) -> int:
            found = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=within)
            opened.callback(os.close, found)
            return found

        try:
            folder = enter(out, None)
            for name in PurePosixPath(said.dir).parts:
                folder = enter(_plain(name), folder)
            for name in said.files:
                descriptor = os.open(_plain(name), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                with os.fdopen(descriptor, "rb") as file:
                    status = os.fstat(descriptor)
                    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                        raise OutputRefusedError(f"{name!r} is not a plain file")
                    total += status.st_size
                    if total > max_bytes:
                        raise OutputRefusedError(f"the checkpoint is larger than {max_bytes} bytes")
                    chunks = iter(lambda: file.read(CHUNK), b"")
                    blob = store.put_stream(project_id, chunks, max_bytes=max_bytes)
                files.append(PublishedFile(name, blob.size, blob.sha256, "application/octet-stream"))
        except OSError as error:
            raise OutputRefusedError(f"{said.dir}: {error.strerror}") from None
    return files


def lay_out_checkpoints(store: Store, project_id: str, left: Sequence[Mapping[str, str]], folder: Path) -> list[str]:
    """Put what earlier attempts left below `folder/in`; the folders, newest first. One that lost a blob, or whose
    blob is damaged, is left out."""
    laid = []
    for number, files in enumerate(left):
        target = folder / "in" / f"checkpoint-{number}"
        target.mkdir(mode=0o700)
        try:
            for name, sha256 in files.items():
                store.fetch(project_id, sha256, target / _plain(name))
        except FileNotFoundError:
            continue
        except Refused as refused:
            if refused.problem.code != "artifact_damaged":
                raise
            continue
        laid.append(str(target))
    return laid


def _plain(name: str) -> str:
    if name in ("", ".", "..") or "/" in name:
        raise OutputRefusedError(f"{name!r} is not a plain name")
    return name
