"""An artifact's folder against its `manifest.json`: every file as listed, and no other. Nothing in it is ever run."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ladapress.download import MANIFEST, SIGNATURE, inside
from ladapress.errors import LadapressError, Problem

VERSIONS = (1, 2)
# What a hub adds to a repository, and `git clone` and `hf download` to a folder. No reader of a model opens it.
HUB = (".gitattributes", ".git", ".cache/huggingface")
MAX_BYTES = 4 << 20  # of the manifest
LEGAL = '{"version": 1 or 2, "files": {PATH: {"size": BYTES, "sha256": 64 hex digits}, ...}}'


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it must be; `file` is relative to the folder."""

    code: str
    file: str
    expected: str
    found: str

    def as_dict(self) -> dict[str, str]:
        """As an entry of a problem's `errors`."""
        return {**asdict(self), "param": self.file, "detail": str(self)}

    def __str__(self) -> str:
        # A name may hold what a terminal would obey.
        return f"{self.file!a}: expected {self.expected}, found {self.found}"


class Damaged(Exception):
    """The findings about one file, or about many."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("; ".join(map(str, findings)))
        self.findings = findings


def refusal(code: str, *findings: Finding, why: str = "The artifact is not what it should be") -> LadapressError:
    """Findings as the one shape of errors: a title, and each file with what was expected and what was found."""
    errors = tuple(finding.as_dict() for finding in findings)
    detail = "; ".join([why, *map(str, findings)])
    return LadapressError(Problem(title=why, detail=detail, code=code, errors=errors))


@dataclass(frozen=True)
class Contents:
    """A folder that is what its manifest says. `manifest` holds the exact bytes, `files` path -> size in bytes."""

    manifest: bytes
    signature: bytes | None
    files: dict[str, int]
    fields: dict[str, Any]  # the manifest, parsed


def check(folder: Path) -> Contents:
    """Read the folder through and compare.

    Raises:
        Damaged: everything that differs, each file with what was expected and what was found.
        OSError: the folder cannot be read.
    """
    there = dict(_walk(folder, folder))
    bad = [Finding("file_illegal", path, "a plain file", kind) for path, kind in there.items() if kind != "file"]
    if there.get(MANIFEST) != "file":
        missing = Finding("manifest_invalid", MANIFEST, f"the manifest, {LEGAL}", there.get(MANIFEST, "nothing"))
        raise Damaged(missing, *bad)
    manifest = _small(folder, MANIFEST)
    fields = strict_json(manifest, MANIFEST, LEGAL)
    listed = _listed(fields)
    for path, (size, sha256) in listed.items():
        if path not in there:
            bad.append(Finding("file_missing", path, f"{size} bytes", "nothing"))
        elif there[path] == "file":
            bad += _compare(folder, path, size, sha256)
    for path in sorted(there.keys() - listed.keys() - {MANIFEST, SIGNATURE, HUB[0]}):
        if there[path] == "file":
            why = " (Python leaves it where load.py is imported: delete the folder)" if "__pycache__" in path else ""
            bad.append(Finding("file_unlisted", path, f"no file that {MANIFEST} does not list", f"one{why}"))
    if bad:
        raise Damaged(*bad)
    signature = _small(folder, SIGNATURE) if SIGNATURE in there else None
    return Contents(manifest, signature, {path: size for path, (size, _) in listed.items()}, fields)


def strict_json(content: bytes, file: str, legal: str) -> dict[str, Any]:
    """An object, each key once, in UTF-8. Two readers of anything else may read two different things."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key that stands there twice")
        return found

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant}, which is no JSON")

    code = f"{file.partition('.')[0]}_invalid"
    try:
        found = json.loads(content.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Damaged(Finding(code, file, legal, str(error))) from None
    if not isinstance(found, dict):
        raise Damaged(Finding(code, file, legal, f"a JSON {type(found).__name__}"))
    return found


def _walk(folder: Path, root: Path) -> Iterator[tuple[str, str]]:
    """(path relative to root, what it is) of everything below a folder. Links are named and never followed."""
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            path = Path(entry.path).relative_to(root).as_posix()
            if entry.is_symlink():
                yield path, "a symbolic link"
            elif path in HUB[1:] and entry.is_dir(follow_symlinks=False):
                continue
            elif entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), root)
            else:
                yield path, "file" if entry.is_file(follow_symlinks=False) else "neither file nor folder"


def _small(folder: Path, name: str) -> bytes:
    with (folder / name).open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        code = f"{name.partition('.')[0]}_invalid"
        raise Damaged(Finding(code, name, f"at most {MAX_BYTES} bytes", "more"))
    return content


def _listed(fields: dict[str, Any]) -> dict[str, tuple[int, str]]:
    """Path -> size, sha256 of what a manifest lists."""

    def illegal(found: str) -> Damaged:
        return Damaged(Finding("manifest_invalid", MANIFEST, LEGAL, found))

    version, files = fields.get("version"), fields.get("files")
    if type(version) is not int or version not in VERSIONS:
        raise illegal(f"version {version!a:.100}; a newer `ladapress` may know it")
    if not isinstance(files, dict) or not files:
        raise illegal(f"files {files!a:.100}")
    listed = {}
    for path, entry in files.items():
        size, sha256 = (entry.get("size"), entry.get("sha256")) if isinstance(entry, dict) else (None, None)
        if type(size) is not int or size < 0 or not re.fullmatch(r"[0-9a-f]{64}", str(sha256)):
            raise illegal(f"{path!a:.300}: {entry!a:.300}")
        try:
            inside(path)
        except LadapressError:
            raise illegal(f"the path {path!a:.300}, which does not stay in the folder") from None
        if path in (MANIFEST, SIGNATURE):
            raise illegal(f"{path!a}, which no manifest lists")
        listed[path] = (size, str(sha256))
    return listed


def _compare(folder: Path, path: str, size: int, sha256: str) -> Iterator[Finding]:
    with (folder / path).open("rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found != size:
            yield Finding("size_mismatch", path, f"{size} bytes", f"{found}")
        elif (digest := hashlib.file_digest(file, "sha256").hexdigest()) != sha256:
            yield Finding("sha256_mismatch", path, f"sha256 {sha256}", digest)
