"""The tokenizer's files: carried byte for byte from the upload to every delivered form."""

from __future__ import annotations

import shutil
from pathlib import Path

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)


def copy(source: Path, target: Path) -> list[str]:
    """Copy those of FILES that `source` has; their names in that order."""
    found = [name for name in FILES if (source / name).is_file()]
    for name in found:
        shutil.copyfile(source / name, target / name)
    return found
