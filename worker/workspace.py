"""A child's folder: inputs laid out read-only before it starts, outputs taken out after it has ended."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path, PurePosixPath
from typing import Any

from jobs.service import Order, PublishedFile
from jobs.store import LocalStore
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


def lay_out(store: LocalStore, order: Order, folder: Path, *, link: bool) -> dict[str, Any]:
    """Put the model's files and the data below `folder/in`; returns the paths for the child's order.

    Args:
        link: hard links instead of copies. Only where the child cannot write through them: the bytes are the store's.

    Raises:
        OSError: a blob is missing, or the disk is full.
    """
    inside = folder / "in"
    (inside / "model").mkdir(mode=0o700)
    for file in order.model:
        if PurePosixPath(file.path).name != file.path:
            raise OSError(f"the model file {file.path!r} is not a plain name")
        _place(store.path(order.project_id, file.sha256), inside / "model" / file.path, link=link)
    paths: dict[str, Any] = {"model": str(inside / "model"), "select": None, "out": str(folder / "out")}
    for role, data in order.data.items():
        target = inside / f"{role}.{data.format}"
        _place(store.path(order.project_id, data.sha256), target, link=link)
        paths[role] = str(target)
    return {**paths, "formats": {role: data.format for role, data in order.data.items()}}


def collect(
    store: LocalStore, project_id: str, out: Path, point: protocol.Folder, max_bytes: int
) -> list[PublishedFile]:
    """Hash the files of one point into the store. Call after the child's group has ended: nothing changes any more.

    Raises:
        OutputRefusedError: a path that leaves the folder, anything but a plain file, more than `max_bytes` in all.
        Refused: storage_full.
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


def _place(blob: Path, target: Path, *, link: bool) -> None:
    if link:
        try:
            os.link(blob, target)
        except OSError:
            pass  # another file system, or one without hard links
        else:
            return
    shutil.copyfile(blob, target)
    target.chmod(0o440)
