"""What a worker works by, as one digest: a result is only as good as new where all of this is the same."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import core


def engine_id(threads: int) -> str:
    """sha256, hex, over the files of `core`, the versions of the libraries, the processor and the threads of a job."""
    from core.measure.machine import hardware  # numpy comes with it, and this module is imported without

    root = Path(core.__file__).parent
    digest = hashlib.sha256(json.dumps(hardware(threads=threads).model_dump(mode="json"), sort_keys=True).encode())
    for path in sorted(path for path in root.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
