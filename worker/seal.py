"""The seal of a point: `signature.json`, made here because the child that wrote the manifest has no key.

The child is treated as taken over. So nothing is signed but a manifest that says the truth about the files that were
collected: not one of something else, and not a sentence that would mean something to a client (docs/decisions/0012).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from jobs.service import PublishedFile
from jobs.signing import SigningKey
from jobs.store import Store
from worker.workspace import OutputRefusedError

MANIFEST, SIGNATURE = "manifest.json", "signature.json"
MAX_MANIFEST_BYTES = 4 << 20


def seal(store: Store, project_id: str, files: Sequence[PublishedFile], key: SigningKey) -> PublishedFile:
    """Sign the manifest among the files of one point; the signature, in the store.

    Raises:
        OutputRefusedError: no manifest, or one that says something else than the files do.
        Refused: storage_full.
    """
    listed = {file.path: file for file in files}
    if SIGNATURE in listed:
        raise OutputRefusedError(f"{SIGNATURE!r} is not the engine's to write")
    manifest = listed.pop(MANIFEST, None)
    if manifest is None or manifest.size > MAX_MANIFEST_BYTES:
        raise OutputRefusedError(f"a point needs {MANIFEST!r} of at most {MAX_MANIFEST_BYTES} bytes")
    with store.open(project_id, manifest.sha256) as stored:
        content = stored.read()  # what will be sent, to the byte
    found = {path: (file.size, file.sha256) for path, file in listed.items()}
    said = _files(content)
    for path in sorted(said.keys() | found.keys()):
        if said.get(path) != found.get(path):
            raise OutputRefusedError(f"{MANIFEST}: {path!r} is {said.get(path)} there and {found.get(path)} in truth")
    blob = store.put_stream(project_id, [key.signature_file(content)], max_bytes=MAX_MANIFEST_BYTES)
    return PublishedFile(path=SIGNATURE, size=blob.size, sha256=blob.sha256, media_type="application/json")


def _files(content: bytes) -> dict[str, tuple[Any, Any]]:
    """Size and sha256 that a manifest gives to each file."""
    try:
        manifest = json.loads(content.decode("utf-8"))
        return {path: (entry["size"], entry["sha256"]) for path, entry in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        legal = '{"version": ..., "files": {path: {"size": ..., "sha256": ...}}}'
        raise OutputRefusedError(f"{MANIFEST} must be {legal}; {type(error).__name__}: {error}"[:500]) from None
