"""Places that models and datasets may be taken from instead of being sent: named by the operator, none by default.

A user names a place below one of them. Every file is opened first and looked at then, by the name that the kernel gives
to what was opened: a link, or a folder that is swapped at that moment, leads nowhere else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from jobs import hub_source
from jobs.problem import Refused, refuse
from jobs.settings import Settings
from jobs.store import CHUNK
from jobs.stores import bucket_at


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: its bare name, its size in bytes, and its bytes, in pieces."""

    name: str
    size: int
    chunks: Callable[[], Iterator[bytes]]


class Sources:
    """What the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._allowed = settings.source_places()

    def files(self, source: str, *, param: str) -> list[SourceFile]:
        """The files of a folder, of a repository or below an s3:// prefix, not deeper; or the one file that is named.

        Raises:
            Refused: source_unknown where it is not below a place that is open, or not there: nobody learns which.
        """
        parts = urlsplit(source[:2_000])
        path = unquote(parts.path)
        found: list[SourceFile] = []
        if "\x00" not in path and not parts.query and not parts.fragment and ".." not in path.split("/"):
            try:
                if parts.scheme == "file" and not parts.netloc:
                    found = self._folder(Path(path))
                elif parts.scheme == "s3" and parts.netloc:
                    found = self._bucket(parts.netloc, path.strip("/"))
                elif parts.scheme == "hf":
                    found = self._hub(f"{parts.netloc}{path}".rstrip("/"))
            except (OSError, ValueError):
                found = []
        if not found:
            raise self._unknown(param)
        return found

    def _folder(self, path: Path) -> list[SourceFile]:
        roots = [Path(unquote(urlsplit(one).path)).resolve() for one in self._allowed if one.startswith("file:")]
        names = sorted(path.iterdir()) if path.is_dir() else [path]
        return [file for name in names if (file := _plain(name, roots)) is not None]

    def _bucket(self, bucket: str, key: str) -> list[SourceFile]:
        import obstore  # noqa: PLC0415 - 16 MB that most services do without

        if key and any(part in ("", ".") for part in key.split("/")):
            return []
        opened = [urlsplit(one) for one in self._allowed if one.startswith("s3:")]
        prefixes = [one.path.strip("/") for one in opened if one.netloc == bucket]
        if not any(not prefix or key == prefix or key.startswith(f"{prefix}/") for prefix in prefixes):
            return []
        place = bucket_at(self._settings, bucket, None, self._settings.store_endpoint)

        def chunks(path: str) -> Callable[[], Iterator[bytes]]:
            def read() -> Iterator[bytes]:
                try:
                    yield from obstore.get(place, path).stream(min_chunk_size=CHUNK)
                except obstore.exceptions.BaseError:
                    raise _away() from None

            return read

        try:
            listed = obstore.list_with_delimiter(place, prefix=key or None)["objects"]
            found = listed or [obstore.head(place, key)]
        except FileNotFoundError:
            return []
        except obstore.exceptions.BaseError:
            raise _away() from None
        return [
            SourceFile(str(one["path"]).rpartition("/")[2], int(one["size"]), chunks(str(one["path"]))) for one in found
        ]

    def _hub(self, path: str) -> list[SourceFile]:
        """A revision keeps its @, also where the address has it behind the owner's name."""
        allowed = tuple(one.removeprefix("hf://").strip("/") for one in self._allowed if one.startswith("hf:"))
        if not hub_source.is_open(path, allowed):
            return []
        return [SourceFile(*one) for one in hub_source.listed(self._settings, path)]

    def _unknown(self, param: str) -> Refused:
        legal = ", ".join(self._allowed) or "none: the operator has opened no source"
        return refuse("source_unknown", f"{param}: no such source is open here; legal: below {legal}", param=param)


def _away() -> Refused:
    return refuse("unavailable", "the source does not answer", retryable=True)


def _plain(path: Path, roots: list[Path]) -> SourceFile | None:
    """A plain file that lies below one of the roots, wherever its name leads; None for what is none."""
    try:
        with _open(path, roots) as file:
            size = os.fstat(file.fileno()).st_size
    except (OSError, ValueError):
        return None

    def chunks() -> Iterator[bytes]:
        with _open(path, roots) as file:
            while chunk := file.read(CHUNK):
                yield chunk

    return SourceFile(path.name, size, chunks)


def _open(path: Path, roots: list[Path]) -> BinaryIO:
    """Raises OSError, or ValueError where what was opened is no plain file below a root."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")  # a pipe must not hold us up
    real = Path(f"/proc/self/fd/{file.fileno()}").readlink()
    if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and any(real.is_relative_to(root) for root in roots):
        return file
    file.close()
    raise ValueError("not a plain file below a source")
