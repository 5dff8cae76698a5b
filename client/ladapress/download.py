"""Fetching an artifact: every byte is checked before any file gets its name.

Files are staged in a hidden folder beside their destination, resumed by range after a cut, hashed from disk, and
renamed into place only when all of them are right; `manifest.json` comes last, so its presence means "complete".
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import httpx2

from ladapress.errors import LadapressError
from ladapress.transport import FIRST_DELAY_S, Transport, place
from ladapress.types import Artifact, ArtifactFile
from ladapress.uploads import sha256

STAGING = ".ladapress-partial"
MANIFEST, SIGNATURE = "manifest.json", "signature.json"  # neither lists itself nor the other
Moved = Callable[[int], None]
"""Told how many bytes have arrived, or (negative) have to be fetched again."""


def nobody(count: int) -> None:
    """Nobody wants to know how many bytes moved."""


def fetch(transport: Transport, artifact: Artifact, folder: Path, moved: Moved) -> tuple[Path, ...]:
    """Download all files of an artifact into `folder` and return their paths.

    A connection that is cut is resumed; where the service stays away, the verified part stays in a hidden folder and
    the next call goes on from there. An artifact that lay in `folder` before is replaced, other files stay.

    Raises:
        LadapressError: `damaged_download` where bytes do not match (nothing of this artifact is left behind),
            `protocol` where the artifact names a path outside `folder`, `unreachable`.
    """
    files = sorted(artifact.files, key=lambda file: (file.path == MANIFEST, file.path))
    targets = [folder / inside(file.path) for file in files]
    folder = folder.absolute()
    made = _first_missing(folder)
    staging = folder / STAGING
    staging.mkdir(parents=True, exist_ok=True)
    try:
        staged = [_fetch_file(transport, artifact.id, file, staging, moved) for file in files]
    except BaseException as error:
        # Only an absent service leaves something to go on from.
        if not (isinstance(error, LadapressError) and error.code == "unreachable"):
            shutil.rmtree(staging, ignore_errors=True)
            _remove_empty(folder, made)
        raise
    _clear_earlier(folder, keep=targets)
    for source, target in zip(staged, targets, strict=True):
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)
    shutil.rmtree(staging)
    return tuple(targets)


def _fetch_file(transport: Transport, artifact_id: str, file: ArtifactFile, staging: Path, moved: Moved) -> Path:
    # Named by content: what an earlier run left of another artifact is never taken for this one.
    part = staging / hashlib.sha256(f"{file.sha256} {file.path}".encode()).hexdigest()[:32]
    inherited = part.exists() and part.stat().st_size <= file.size
    if inherited:
        moved(part.stat().st_size)
    else:
        part.write_bytes(b"")
    while True:
        _fill(transport, place("artifacts", artifact_id, "files", file.path), file, part, moved)
        found = sha256(part)
        if found == file.sha256:
            return part
        if not inherited:
            raise _damaged(file, f"sha256 {found}")
        inherited = False  # the part of an earlier run was bad; once more from the first byte
        moved(-part.stat().st_size)
        part.write_bytes(b"")


def _fill(transport: Transport, url: str, file: ArtifactFile, part: Path, moved: Moved) -> None:
    """Bring `part` to the announced size, over as many connections as it takes."""
    deadline = time.monotonic() + transport.patience_s
    while (have := part.stat().st_size) < file.size:
        headers = {"accept": "*/*", "accept-encoding": "identity"}
        if have:
            # No If-Range: a store elsewhere has tags of its own, and the sha256 is looked at in the end anyway.
            headers |= {"range": f"bytes={have}-"}
        try:
            with transport.send("GET", url, headers=headers, stream=True, elsewhere=True) as response:
                if have and response.status_code != httpx2.codes.PARTIAL_CONTENT:
                    moved(-have)
                    have = 0
                with part.open("r+b") as out:
                    out.truncate(have)
                    out.seek(have)
                    for chunk in response.iter_bytes():  # as they come: what has arrived before a cut is kept
                        have += len(chunk)
                        if have > file.size:
                            raise _damaged(file, f"more than {file.size} bytes")
                        out.write(chunk)
                        moved(len(chunk))
                        deadline = time.monotonic() + transport.patience_s
                    out.flush()
                    os.fsync(out.fileno())
        except httpx2.TransportError as error:
            if time.monotonic() > deadline:
                raise LadapressError.local(
                    "unreachable",
                    f"{file.path}: the connection breaks again and again ({error}); run the same command to go on",
                    retryable=True,
                ) from error
            time.sleep(FIRST_DELAY_S)
        else:
            if have < file.size:
                raise _damaged(file, f"{have} bytes")


def _clear_earlier(folder: Path, *, keep: list[Path]) -> None:
    """Remove the earlier artifact's manifest, and those of its files that the new one does not overwrite.

    Left in place, the weights of one model would lie beside the structure of another, or under its signature.
    """
    try:
        listed = json.loads((folder / MANIFEST).read_bytes())["files"]
        earlier = [folder / inside(path) for path in (*listed, SIGNATURE)]
    except (OSError, ValueError, KeyError, TypeError, LadapressError):
        earlier = []  # no artifact of ours, so nothing of it to remove
    (folder / MANIFEST).unlink(missing_ok=True)
    for path in earlier:
        if path not in keep:
            path.unlink(missing_ok=True)


def _damaged(file: ArtifactFile, found: str) -> LadapressError:
    return LadapressError.local(
        "damaged_download",
        f"{file.path}: got {found}, announced are sha256 {file.sha256} and {file.size} bytes; nothing was kept",
        retryable=True,
    )


def inside(path: str) -> Path:
    """`path` as a relative path below the folder; a service that names another one is not trusted."""
    pure = PurePosixPath(path)
    legal = path and not pure.is_absolute() and "\\" not in path and "\x00" not in path and ":" not in path
    if not legal or any(part in ("..", ".", STAGING) for part in path.split("/")):
        raise LadapressError.local("protocol", f"the artifact names the file {path!r}, which lies outside its folder")
    return Path(*pure.parts)


def _first_missing(folder: Path) -> Path | None:
    """The topmost folder that will have to be made for `folder`; None where it exists."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    return missing[-1] if missing else None


def _remove_empty(folder: Path, made: Path | None) -> None:
    """Take back the folders that this download made, from `folder` up to `made`."""
    while made is not None and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        if folder == made:
            return
        folder = folder.parent
