"""A secret in a file of its own: whole or not there, for its owner only, one for all processes that start together."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def read_or_create(path: Path, fresh: Callable[[], str]) -> str:
    """The file's text, or `fresh()` where there is no file yet; two processes that start together agree on one.

    Raises:
        OSError: it can neither be read nor written.
    """
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    # The link is whole when it succeeds, and fails where the other process was first.
    with _draft(path, fresh()) as draft, suppress(FileExistsError):
        os.link(draft, path)
    return path.read_text(encoding="ascii")


@contextmanager
def replacement(path: Path, text: str) -> Iterator[Callable[[], None]]:
    """Write `text` beside the file; the function given puts it in place. Left without that, nothing has changed.

    So that all that may fail (no room, no right to write here) fails before others are told of the new secret.
    """
    with _draft(path, text) as draft:
        yield lambda: _place(draft, path)


@contextmanager
def _draft(path: Path, text: str) -> Iterator[Path]:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _place(draft: Path, path: Path) -> None:
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name survives a power cut
    finally:
        os.close(folder)
